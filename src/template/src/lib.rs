//! Templates: text to a [`kiln_core::Plan`].
//!
//! ```text
//!   *.pkr.hcl, *.kiln.hcl ──► hcl    ─┐
//!   *.pkrvars.hcl, -var,              ├──► Plan { builds, variables, secrets, ... } + diagnostics
//!   PKR_VAR_x, KILN_VAR_x             │
//!   template.json ─────────► legacy  ─┘
//! ```
//!
//! Owns: which files make a template, what their blocks mean, variables and their precedence, locals, `-only` and
//! `-except`, and the evaluation of component bodies ([`kiln_core::ComponentConfig`]). Must not know: which kinds of
//! builder, provisioner and post-processor there are (a schema comes with each evaluation), any engine, the terminal, the
//! environment and home of the process (they come in [`LoadOptions`]).
//!
//! ```no_run
//! let options = kiln_template::LoadOptions::new("worker.pkr.hcl", "/work");
//! let loaded = kiln_template::load(&options);
//! for diagnostic in &loaded.diagnostics.items {
//!     let text = kiln_core::render::render(diagnostic, &loaded.sources, false);
//! }
//! ```

pub mod fix;
pub mod grammar;
pub mod hcl;
pub mod legacy;
pub mod load;
pub mod upgrade;

pub use load::{ConfigType, DataOptions, Host, LoadOptions, Loaded, Outcome, TemplateText, UnknownKinds, load};
