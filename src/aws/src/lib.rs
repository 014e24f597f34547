//! AWS behind the traits of those who use it: the only crate that knows the SDK.
