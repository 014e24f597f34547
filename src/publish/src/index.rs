//! Images of several platforms: what post-processors do with them that know one image.

use kiln_core::{BuildContext, Failure, Image, suggest};
use kiln_image::{Layout, index, recompress};

use crate::error::PublishError;
use crate::layout::LayoutImage;
use crate::prepare;
use crate::settings::EngineProvider;

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
    match image.for_host() {
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

/// The images of an index that lie in engines, joined in a layout that lives as long as the build; `None` where it is no
/// index, or lies in a layout already. Registries are to get compressed layers, so that is what they have there.
pub(crate) async fn brought_together(
    image: &Image,
    provider: &dyn EngineProvider,
    context: &BuildContext,
) -> Result<Option<LayoutImage>, Failure> {
    if !image.is_index() || image.layout.is_some() {
        return Ok(None);
    }
    let root = context.scratch.join("index");
    let (path, failed) = (root.clone(), PublishError::layout("make a layout for the images"));
    let layout = prepare::blocking(context, root.clone(), move |_| Layout::create(path).map_err(failed)).await?;
    let mut entries = Vec::new();
    for variant in &image.variants {
        let (platform, id) = (&variant.platform, &variant.image.id);
        context.events.message(format!("taking the image for {platform} over from the engine"));
        let engine = context.unless_cancelled(provider.engine_of(&variant.image)).await??;
        let archive = context.scratch.join(format!("{}.tar", platform.to_string().replace('/', "-")));
        let taken = kiln_docker::take_over(engine.as_ref(), id, &layout, &archive);
        let taken = context.unless_cancelled(taken).await?;
        let manifest = taken.map_err(|source| PublishError::TakeOver { platform: platform.to_string(), source })?;
        let its_layout = layout.clone();
        let failed = PublishError::layout(format!("compress the image for {platform}"));
        let compressing = prepare::blocking(context, root.clone(), move |_| {
            recompress::compress_layers(&its_layout, &manifest).map_err(failed)
        });
        entries.push((platform.clone(), context.unless_cancelled(compressing).await??));
    }
    let (its_layout, failed) = (layout.clone(), PublishError::layout("join the images"));
    let joining = prepare::blocking(context, root, move |_| index::write_index(&its_layout, &entries).map_err(failed));
    let digest = joining.await?;
    let joined = Image {
        id: digest.to_string(),
        digest: Some(digest.to_string()),
        layout: Some(layout.root().to_path_buf()),
        ..Image::default()
    };
    Ok(LayoutImage::of(&joined)?)
}

fn platforms(image: &Image) -> String {
    let names: Vec<String> = image.variants.iter().map(|variant| variant.platform.to_string()).collect();
    suggest::enumerate(names.iter().map(String::as_str))
}

#[cfg(test)]
mod tests;
