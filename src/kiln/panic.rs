//! What a panic shows: one line that says where, and nothing that may be secret.

use std::any::Any;
use std::panic::{Location, PanicHookInfo};

use crate::ui;

/// Replaces Rust's own message, unless a backtrace is asked for with `RUST_BACKTRACE`.
pub(crate) fn install() {
    let usual = std::panic::take_hook();
    let wants_backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |information: &PanicHookInfo<'_>| {
        if wants_backtrace {
            usual(information);
        } else {
            ui::show_text(&line(information.location(), information.payload()));
        }
    }));
}

/// A message that was put together while kiln ran may hold a secret, and no redactor is at hand; a constant one may not.
fn line(location: Option<&Location<'_>>, payload: &dyn Any) -> String {
    let place = location.map_or_else(String::new, |location| format!(" at {}:{}", location.file(), location.line()));
    let message = payload.downcast_ref::<&'static str>().map_or_else(String::new, |text| format!(": {text}"));
    format!("internal error in kiln{place}{message} (RUST_BACKTRACE=1 tells more)\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_message_is_shown_and_a_made_one_is_not() {
        let here = Location::caller();
        let shown = line(Some(here), &"queue is gone");
        assert!(shown.starts_with("internal error in kiln at src/kiln/panic.rs:"), "{shown}");
        assert!(shown.contains(": queue is gone ("), "{shown}");
        assert_eq!(shown.lines().count(), 1);
        let hidden = line(Some(here), &"token hunter22".to_owned());
        assert!(!hidden.contains("hunter22"), "{hidden}");
    }
}
