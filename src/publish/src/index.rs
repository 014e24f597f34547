//! Images of several platforms: what post-processors do with them that know one image.

use kiln_core::{BuildContext, Image, suggest};

use crate::error::PublishError;

/// For those who take one image: refuses an index.
pub(crate) fn refuse(processor: &'static str, image: &Image) -> Result<(), PublishError> {
    if !image.is_index() {
        return Ok(());
    }
    Err(PublishError::Index { processor, platforms: platforms(image) })
}

/// What bears the names of an image in an engine: itself, or of an index the image for this host's platform, as engines
/// before 25 have no names for several. `None` where it has no such image, which is said.
pub(crate) fn in_engine<'a>(image: &'a Image, name: &str, context: &BuildContext) -> Option<&'a Image> {
    if !image.is_index() {
        return Some(image);
    }
    // One on another engine could not be named here.
    match image.for_host().filter(|own| own.image.engine.is_none()) {
        Some(own) => {
            let others = image.variants.iter().filter(|variant| *variant != own);
            let others: Vec<String> = others.map(|variant| variant.platform.to_string()).collect();
            if !others.is_empty() {
                context.events.message(format!(
                    "here {name} names the image for {}; a push takes those for {} along",
                    own.platform,
                    suggest::enumerate(others.iter().map(String::as_str))
                ));
            }
            Some(&own.image)
        }
        None => {
            context.events.message(format!(
                "{name} gets no name here: there are images for {}; a push takes them under it",
                platforms(image)
            ));
            None
        }
    }
}

fn platforms(image: &Image) -> String {
    let names: Vec<String> = image.variants.iter().map(|variant| variant.platform.to_string()).collect();
    suggest::enumerate(names.iter().map(String::as_str))
}

/// TEMPORARY
pub(crate) fn refuse_in_engine(processor: &'static str, image: &Image) -> Result<(), PublishError> {
    if image.layout.is_some() { Ok(()) } else { refuse(processor, image) }
}
