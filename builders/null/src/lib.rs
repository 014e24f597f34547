//! The `null` builder: a machine that is there already.
