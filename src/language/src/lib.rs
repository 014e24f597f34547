//! The HCL2 language: text to a tree with places, and trees to values.
//!
//! Owns: syntax, values, types, conversion, evaluation, functions. Must not know: which blocks a template has and what
//! they mean (that is `kiln-template`), the network, the terminal.
//!
//! ```text
//!   text ──syntax::parse_body──► syntax::Body ──evaluate::evaluate──► value::Value
//! ```

pub mod convert;
pub mod evaluate;
pub mod format;
pub mod functions;
mod number;
pub mod print;
pub mod size;
pub mod syntax;
pub mod value;
