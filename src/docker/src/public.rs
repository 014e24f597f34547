//! What everybody who has an image can read: its configuration and its history.

use kiln_core::{Decoded, Diagnostic};

/// A warning where an argument that goes into an image's configuration or history is, or derives from, a sensitive value.
/// The path is that of a value or of a list's item, `message` or `changes[0]`; a list may be sensitive as a whole.
pub fn secret_in_image(arguments: &Decoded, path: &str) -> Option<Diagnostic> {
    let list = path.split('[').next().unwrap_or(path);
    let place = [path, list].into_iter().find(|place| arguments.is_sensitive(place))?;
    let title = "a sensitive value would stand in the image for everyone to read";
    Some(
        Diagnostic::warning("secret-in-image", arguments.span(place), title)
            .help("hand it to a step by `env` instead: that is gone when the step ends"),
    )
}
