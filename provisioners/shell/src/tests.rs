//! What would be sent to the machine, and what is made of its answers.

mod arguments;
mod explicit;
mod on_this_host;
mod real_shells;
mod wrapped;

use std::sync::Arc;

use kiln_core::Provisioner;
use kiln_testkit::Arguments;
use serde_json::Value as Json;

use crate::ShellKind;

fn shell(json: Json) -> Arc<dyn Provisioner> {
    prepared(&Arguments::new(json))
}

fn prepared(arguments: &Arguments) -> Arc<dyn Provisioner> {
    let (provisioner, diagnostics) = arguments.provisioner(&ShellKind);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    provisioner.unwrap()
}
