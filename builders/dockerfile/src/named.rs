//! `contexts`: what names in a Dockerfile mean, and lending images the names that BuildKit finds them by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_buildkit::{Directory, Request, Session, Transport};
use kiln_core::{BuildContext, EntryId, Failure};
use kiln_docker::LentNameUndo;
use kiln_image::Digest;

use crate::builder::DockerfileBuilder;
use crate::dockerfile::{Dockerfile, Instruction, expand};
use crate::run::Opened;
use crate::substitute::{meant, mentions, substitute};

/// Where images are lent names. No registry is there: it is a name that BuildKit finds in the engine's store.
const LENT: &str = "kiln.local/lent";

/// The first engine whose BuildKit takes directories under names.
const TAKES_DIRECTORIES: u32 = 23;

/// A Dockerfile that holds what a directory has, for engines whose BuildKit knows no named directories.
const DIRECTORY: &str = "FROM scratch\nCOPY . /\n";

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An image by its id: of another build, most often.
    Local(String),
    /// An image by its name.
    Image(String),
    /// A directory of this host.
    Directory(PathBuf),
}

impl Meaning {
    pub(crate) fn parse(text: &str, base: &Path) -> Meaning {
        if let Some(image) = text.strip_prefix("docker-image://") {
            return Meaning::Image(image.to_owned());
        }
        if Digest::parse(text).is_ok() {
            return Meaning::Local(text.to_owned());
        }
        let path = base.join(text);
        let is_path = text.starts_with(['.', '/', '~']) || path.is_dir();
        if is_path { Meaning::Directory(path) } else { Meaning::Image(text.to_owned()) }
    }
}

/// Names that images bear until the build is over.
#[derive(Default)]
pub(crate) struct Lent(Vec<(LentNameUndo, EntryId)>);

/// What a session and a request get from `contexts`.
#[derive(Default)]
pub(crate) struct Named {
    /// For names in the Dockerfile.
    replacements: BTreeMap<String, String>,
    /// Served by the session.
    directories: BTreeMap<String, PathBuf>,
    /// What the template calls images that were lent a name.
    lent: BTreeMap<String, String>,
}

impl Named {
    pub(crate) fn replace(&mut self, name: &str, image: String) {
        self.replacements.insert(name.to_owned(), image);
    }

    pub(crate) fn directory(&mut self, name: &str, path: PathBuf) {
        self.directories.insert(name.to_owned(), path);
    }

    /// Puts the names into the Dockerfile that BuildKit reads.
    pub(crate) fn text(&self, builder: &DockerfileBuilder, file: &Dockerfile) -> String {
        substitute(file, &self.replacements, &builder.config.build_args).0
    }

    /// What BuildKit tells, with the template's names.
    pub(crate) fn shown(&self, text: String) -> String {
        self.lent.iter().fold(text, |text, (lent, name)| text.replace(lent, name))
    }

    /// Where images are mentioned, each by the name that BuildKit calls it by.
    pub(crate) fn images<'a>(
        &self,
        file: &'a Dockerfile,
        given: &BTreeMap<String, String>,
    ) -> Vec<(String, &'a Instruction)> {
        let arguments = file.global_arguments(given);
        let mentioned =
            file.instructions.iter().flat_map(|found| found.references().into_iter().map(move |w| (w, found)));
        mentioned
            .map(|(word, instruction)| {
                let name = expand(&word.text, &arguments);
                (meant(&self.replacements, &name).map_or(name.clone(), |(_, image)| image.to_owned()), instruction)
            })
            .collect()
    }

    fn lend(&mut self, name: &str, reference: String) {
        self.lent.insert(reference.clone(), name.to_owned());
        self.replacements.insert(name.to_owned(), reference);
    }

    pub(crate) fn apply(&self, session: &mut Session, request: &mut Request) {
        for (name, path) in &self.directories {
            session.directories.insert(name.clone(), Directory::Path(path.clone()));
            request.options.insert(format!("context:{name}"), format!("local:{name}"));
        }
    }
}

impl DockerfileBuilder {
    /// Warns of names that stand nowhere: a misspelt one is the usual reason.
    pub(crate) fn warn_of_unused(&self, file: &Dockerfile, context: &BuildContext) {
        for name in self.config.contexts.keys() {
            if file.syntax.is_none() && !mentions(file, name, &self.config.build_args) {
                context.events.warn(format!("`contexts` gives `{name}`, which {} does not mention", file.name));
            }
        }
    }

    /// Makes the images and directories of `contexts` known by names. What was lent is in `lent` even where this fails.
    pub(crate) async fn name(
        &self,
        opened: &Opened,
        lent: &mut Lent,
        context: &BuildContext,
    ) -> Result<Named, Failure> {
        let mut named = Named::default();
        for (name, text) in &self.config.contexts {
            if !mentions(&opened.file, name, &self.config.build_args) && opened.file.syntax.is_none() {
                continue;
            }
            match Meaning::parse(text, &self.directory) {
                Meaning::Image(image) => _ = named.replacements.insert(name.clone(), image),
                Meaning::Local(id) => {
                    named.lend(name, self.lend(&id, lent, context).await?);
                }
                Meaning::Directory(path) if !path.is_dir() => {
                    let text =
                        format!("`contexts` gives `{name}` the directory {}, which does not exist", path.display());
                    return Err(Failure::build(text).hint("it is relative to the template"));
                }
                Meaning::Directory(path) => {
                    if self.takes_directories().await? {
                        named.directories.insert(name.clone(), path);
                    } else {
                        named.lend(name, self.image_of(&path, lent, context).await?);
                    }
                }
            }
        }
        Ok(named)
    }

    /// Gives an image of the engine a name of this build.
    async fn lend(&self, id: &str, lent: &mut Lent, context: &BuildContext) -> Result<String, Failure> {
        let engine = &self.settings.engine;
        // Which id the engine has for it, the journal has to know.
        let image = self.settings.handed(context, id).await?.id;
        let undo = self.record(Some(image.clone()), lent, context)?;
        let (repository, tag) = undo.rsplit_once(':').unwrap_or((&undo, "latest"));
        engine.tag(&image, repository, tag).await?;
        Ok(undo)
    }

    fn record(&self, image: Option<String>, lent: &mut Lent, context: &BuildContext) -> Result<String, Failure> {
        let reference = format!("{LENT}:{}", uuid::Uuid::new_v4().simple());
        let undo = LentNameUndo { engine: self.settings.engine.address().to_owned(), reference, image };
        let entry = context.journal.record(&context.build, undo.entry())?;
        let reference = undo.reference.clone();
        lent.0.push((undo, entry));
        Ok(reference)
    }

    /// An image of a directory's files, by a name of this build.
    async fn image_of(&self, path: &Path, lent: &mut Lent, context: &BuildContext) -> Result<String, Failure> {
        let reference = self.record(None, lent, context)?;
        let file = Dockerfile::parse("Dockerfile", DIRECTORY);
        let mut session = Session::new(&self.session_key(&path.display().to_string()).await);
        let text = Directory::Files(vec![("Dockerfile".to_owned(), Arc::from(DIRECTORY.as_bytes()))]);
        session.directories.insert("dockerfile".to_owned(), text);
        session.directories.insert("context".to_owned(), Directory::Path(path.to_path_buf()));
        let request = Request {
            frontend: "dockerfile.v0".to_owned(),
            exporter: Some("moby".to_owned()),
            exporter_options: BTreeMap::from([("name".to_owned(), reference.clone())]),
            ..Request::default()
        };
        let transport = Transport::Engine(Arc::clone(&self.settings.engine));
        self.solve(&transport, session, request, (&file, &Named::default()), context).await?;
        Ok(reference)
    }

    async fn takes_directories(&self) -> Result<bool, Failure> {
        if self.daemon.is_some() {
            return Ok(true);
        }
        let version = self.settings.engine.version().await?.version;
        let major = version.split('.').next().and_then(|number| number.parse::<u32>().ok());
        Ok(major.is_some_and(|major| major >= TAKES_DIRECTORIES))
    }

    /// Takes all names back, whatever became of the build.
    pub(crate) async fn take_back(&self, lent: Lent, context: &BuildContext) -> Result<(), Failure> {
        for (undo, entry) in lent.0 {
            undo.take_back(&*self.settings.engine).await?;
            context.journal.strike(entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_lent_are_not_shown() {
        let mut named = Named::default();
        named.lend("my-base", "kiln.local/lent:0a1b".to_owned());
        named.replace("tools", "registry.example.org/tools:2".to_owned());
        assert_eq!(named.shown("[2/3] FROM kiln.local/lent:0a1b".to_owned()), "[2/3] FROM my-base");
        let text = "ARG B=my-base\nFROM $B\nCOPY --from=tools a b\nRUN --mount=from=debian:12 true\n";
        let file = Dockerfile::parse("Dockerfile", text);
        let images: Vec<(String, usize)> =
            named.images(&file, &BTreeMap::new()).into_iter().map(|(name, found)| (name, found.lines.0)).collect();
        let expected = [("kiln.local/lent:0a1b", 2), ("registry.example.org/tools:2", 3), ("debian:12", 4)];
        assert_eq!(images, expected.map(|(name, line)| (name.to_owned(), line)));
    }

    #[test]
    fn meanings_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("shared")).unwrap();
        let base = directory.path();
        let id = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Meaning::parse(&id, base), Meaning::Local(id.clone()));
        assert_eq!(Meaning::parse("debian:12", base), Meaning::Image("debian:12".into()));
        assert_eq!(Meaning::parse("docker-image://shared", base), Meaning::Image("shared".into()));
        assert_eq!(Meaning::parse("shared", base), Meaning::Directory(base.join("shared")));
        assert_eq!(Meaning::parse("../x", base), Meaning::Directory(base.join("../x")));
    }
}
