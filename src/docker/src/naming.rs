//! What kiln calls and labels what it makes in an engine.

use std::collections::HashMap;

use kiln_core::BuildContext;

/// Labels that tell whose a container, network or image is.
pub fn run_labels(context: &BuildContext) -> HashMap<String, String> {
    HashMap::from([
        ("kiln.run".to_owned(), context.run.to_string()),
        ("kiln.build".to_owned(), context.build.to_string()),
    ])
}

/// `kiln-4f1c2a3b-worker`: unique for a run's build, and known before the container exists.
pub fn container_name(context: &BuildContext) -> String {
    let run: String = context.run.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    let slug: String =
        context.build.chars().map(|character| if is_plain(character) { character } else { '-' }).take(48).collect();
    if slug == *context.build {
        return format!("kiln-{run}-{slug}");
    }
    // Two builds whose names differ only in such characters must not meet (FNV-1a).
    let hash =
        context.build.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("kiln-{run}-{slug}-{hash:08x}")
}
