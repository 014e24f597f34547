//! The data sources that kiln has.
//!
//! ```text
//!   data "http" "x" { url = ... }  ──► HttpKind ──► one request ──► url, body, request_headers
//!   data "null" "x" { input = ... } ─► NullKind ──► its input, as output
//! ```
//!
//! Owns: what each kind's arguments mean, and how it asks the outside: proxies, certificates, time limits. Must not know:
//! templates and their language (values come decoded by the kind's schema), the order in which data sources are read, the
//! process's environment (it comes in [`DataSettings`]).
//!
//! ```
//! let mut kinds = kiln_core::Kinds::new();
//! kiln_data::register(&mut kinds, kiln_data::DataSettings::default());
//! assert_eq!(kinds.data_source_names(), ["http", "null"]);
//! ```

mod client;
mod error;
mod http;
mod null;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::Kinds;

pub use error::HttpError;
pub use http::HttpKind;
pub use null::NullKind;
pub use reader::RuntimeReader;

/// What data sources need of the process's surroundings.
#[derive(Debug, Clone, Default)]
pub struct DataSettings {
    /// The environment, for proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) and certificates (`SSL_CERT_FILE`).
    pub environment: BTreeMap<String, String>,
}

/// Adds all of them. Nothing is connected to, no file is read yet.
pub fn register(kinds: &mut Kinds, settings: DataSettings) {
    kinds.add_data_source(Arc::new(HttpKind::new(settings)));
    kinds.add_data_source(Arc::new(NullKind));
}
