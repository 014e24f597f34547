//! The `file` builder: a file with a given content.
