//! `platforms`: the images of several platforms under one digest, brought to where the arguments say.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Builder, Decoded, Diagnostic, Diagnostics, Failure, Image, Joined, Launched, Platform,
    Variant,
};
use kiln_image::changes::Changes;
use kiln_image::compress::Compression;
use kiln_image::{Digest, index};
use kiln_registry::Reference;

use crate::OciSettings;
use crate::config::Config;
use crate::error;
use crate::from::From;
use crate::launch::OciBuilder;
use crate::outputs::Bringing;
use crate::place::Places;
use crate::prepare::Recipe;

/// What holds an image of one platform, or none at all.
const OF_ONE_PLATFORM: [&str; 4] = ["docker_archive", "load", "export_path", "discard"];

/// Takes what belongs to the index away from the arguments of one of its images, and refuses what there is no index of.
pub(crate) fn of_variant(config: &mut Config, decoded: &Decoded, diagnostics: &mut Diagnostics) {
    let is_asked_for =
        |name: &&str| decoded.is_set(name) && decoded.values().get(*name) != Some(&serde_json::Value::Bool(false));
    for name in OF_ONE_PLATFORM.iter().filter(|name| is_asked_for(name)) {
        let title = format!("`{name}` is for one platform, and this source is built for several (`platforms`)");
        let help = "`oci_layout` holds all of them; for a source with one `platform` it works";
        diagnostics.push(Diagnostic::error("one-platform", decoded.span(name), title).help(help));
    }
    config.tags.clear();
    config.push.clear();
    config.oci_layout = None;
}

/// Joins the images of the store.
pub(crate) struct IndexBuilder {
    /// With the arguments, without what only a machine needs.
    base: OciBuilder,
    variants: Vec<Variant>,
    kind: Arc<str>,
}

impl IndexBuilder {
    /// `push` has its places in the template, and whether there are more of them that are not known yet.
    pub(crate) fn new(
        config: Config,
        (push, is_pushed): (Vec<(Reference, kiln_core::Span)>, bool),
        variants: Vec<Variant>,
        kind: Arc<str>,
        settings: OciSettings,
        places: Arc<Places>,
    ) -> IndexBuilder {
        let (push, push_spans): (Vec<_>, Vec<_>) = push.into_iter().unzip();
        let recipe = Recipe {
            config,
            from: From::Scratch,
            platform: Platform::host(),
            changes: Changes::default(),
            compression: Compression::None,
            is_pushed: is_pushed || !push.is_empty(),
            push,
            push_spans,
            is_docker: false,
            is_tested: false,
        };
        IndexBuilder { base: OciBuilder::new(settings, places, recipe), variants, kind }
    }

    async fn join(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        if let Some(password) = &self.base.recipe.config.login_password {
            context.redactor.add(password.expose());
        }
        let place = self.base.place().await?;
        place.store.hold().map_err(error::cache)?;
        let layout = place.store.layout().clone();
        let images: Result<Vec<(Platform, Digest)>, Failure> = self
            .variants
            .iter()
            .map(|variant| {
                let digest = variant.image.digest.as_deref().unwrap_or_default();
                Ok((variant.platform.clone(), Digest::parse(digest).map_err(error::image)?))
            })
            .collect();
        let images = images?;
        let its_layout = layout.clone();
        let digest = error::blocking(move || index::write_index(&its_layout, &images).map_err(error::image)).await?;
        let client = self.base.client(context);
        let bringing = Bringing {
            recipe: &self.base.recipe,
            place: &place,
            settings: &self.base.settings,
            client: &client,
            mount_from: None,
            context,
        };
        let (tags, owner) = bringing.bring_index(&digest).await?;
        let image = Image {
            engine: None,
            id: digest.to_string(),
            tags,
            digest: Some(digest.to_string()),
            layout: Some(layout.root().to_path_buf()),
            variants: self.variants.clone(),
        };
        Ok(Artifact { owner: Some(owner), ..Joined::artifact(&self.kind, image) })
    }
}

#[async_trait]
impl Builder for IndexBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        self.join(context).await.map(Launched::Artifact)
    }

    fn names(&self) -> Vec<String> {
        self.base.names()
    }

    fn pushed_names(&self) -> Vec<String> {
        self.base.pushed_names()
    }

    fn pushes(&self) -> bool {
        self.base.pushes()
    }
}
