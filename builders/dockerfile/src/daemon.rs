//! Builds by a BuildKit daemon: no engine has the image, so it lands in kiln's store, as those of `oci` sources do.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_buildkit::{DaemonAddress, Transport};
use kiln_cache::{Store, StoreOptions};
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Content, Failure, Image};
use kiln_image::archive::import_archive;
use kiln_image::{Digest, Platform};

use crate::builder::DockerfileBuilder;
use crate::named::{Meaning, Named};

/// Builder id of images that no engine made, as of those of `oci` sources.
const IMAGE: &str = "packer.post-processor.docker-import";

impl DockerfileBuilder {
    /// Builds it there, and takes the result into the store.
    pub(crate) async fn build_by_daemon(
        &self,
        daemon: &DaemonAddress,
        context: &BuildContext,
    ) -> Result<Artifact, Failure> {
        let Some(root) = self.settings.store.clone() else {
            return Err(Failure::environment("there is no store for what a BuildKit daemon makes"));
        };
        let opened = self.open(context).await?;
        self.check(&opened)?;
        context.events.message(format!("building {} at {daemon}", opened.file.name));
        self.warn_of_unused(&opened.file, context);
        let named = self.named_for_daemon()?;
        let mut session = self.session(&opened, &named.text(self, &opened.file), context).await?;
        let mut request = self.request(&opened, context);
        named.apply(&mut session, &mut request);
        if self.config.pull == crate::config::Pull::Always {
            request.options.insert("image-resolve-mode".to_owned(), "pull".to_owned());
        }
        let archive = context.scratch.join("image.tar");
        session.output = Some(archive.clone());
        request.exporter = Some("oci".to_owned());
        let transport = Transport::Daemon(daemon.clone());
        self.solve(&transport, session, request, (&opened.file, &named), context).await?;
        context.events.message("taking the image into the store");
        let platform = platform(self.config.platform.as_deref());
        let taken = tokio::task::spawn_blocking(move || take(&archive, &root, &platform)).await;
        let (store, manifest, id) = taken.map_err(Failure::build)??;
        Ok(artifact(store, &manifest, &id))
    }

    /// A daemon has its images from registries alone.
    fn named_for_daemon(&self) -> Result<Named, Failure> {
        let mut named = Named::default();
        for (name, text) in &self.config.contexts {
            match Meaning::parse(text, &self.directory) {
                Meaning::Image(image) => named.replace(name, image),
                Meaning::Directory(path) => named.directory(name, path),
                Meaning::Local(id) => {
                    let text = format!("`contexts` gives `{name}` the image {id:.19}, which is on this host alone");
                    return Err(Failure::build(text).hint(
                        "a BuildKit daemon takes images from registries: push the parent, and name it with its digest",
                    ));
                }
            }
        }
        Ok(named)
    }
}

/// Takes an archive's image into the store, where it is held as long as this process lives. Blocks.
fn take(archive: &Path, root: &Path, platform: &Platform) -> Result<(Arc<Store>, Digest, Digest), Failure> {
    let store = Store::open(root, &StoreOptions::default()).map_err(Failure::environment)?;
    store.hold().map_err(Failure::environment)?;
    let file = std::fs::File::open(archive).map_err(Failure::build)?;
    let imported = import_archive(std::io::BufReader::with_capacity(1 << 20, file), store.layout());
    let _ = std::fs::remove_file(archive);
    let imported = imported.map_err(Failure::build)?;
    let Some(image) = imported.first() else {
        return Err(Failure::build("BuildKit exported no image"));
    };
    let opened = kiln_image::Image::open_for(store.layout(), &image.digest, platform).map_err(Failure::build)?;
    let (manifest, id) = (opened.digest, opened.config_digest);
    store.put_id(&id, &manifest).map_err(Failure::environment)?;
    Ok((Arc::new(store), manifest, id))
}

/// The one asked for, or this host's.
fn platform(asked: Option<&str>) -> Platform {
    let mut parts = asked.unwrap_or_default().split('/').map(str::to_owned);
    match (parts.next(), parts.next()) {
        (Some(os), Some(architecture)) => Platform { os, architecture, variant: parts.next() },
        _ => Platform::host(),
    }
}

fn artifact(store: Arc<Store>, manifest: &Digest, id: &Digest) -> Artifact {
    let layout = store.layout().root().to_path_buf();
    let image =
        Image { id: id.to_string(), digest: Some(manifest.to_string()), layout: Some(layout), ..Image::default() };
    Artifact {
        builder_id: IMAGE.to_owned(),
        id: id.to_string(),
        description: format!("OCI image: {id}"),
        content: Content::Image(image),
        owner: Some(Arc::new(Held { _store: store })),
    }
}

/// Holds the image in the store until the build is over; what nobody names then is collected like all that is there.
struct Held {
    _store: Arc<Store>,
}

#[async_trait]
impl ArtifactOwner for Held {
    async fn destroy(&self, _artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        Ok(())
    }
}
