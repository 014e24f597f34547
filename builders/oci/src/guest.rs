//! The guest: its root in a workspace of the build, and the sandbox that runs on it when something needs one.
//!
//! A root is an overlay on the base and the kept states, or, where nothing can be mounted, a copy of the base's tree. Of the
//! first the changes are the overlay's upper directory, of the second what differs from a record of the tree.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::StateEntry;
use kiln_core::Failure;
use kiln_image::pack::{PackOptions, PackSettings, Packed, pack_difference};
use kiln_image::tree::TreeManifest;
use kiln_image::unpack::{Devices, TreeFormat, UnpackOptions};
use kiln_sandbox::{Isolation, Resting, RootFs, SandboxError, SandboxSpec, Session, Task, Worker};
use tokio::sync::Mutex;

use crate::base::Base;
use crate::error;
use crate::place::Place;

/// In a kept state: the changes as an overlay has them.
const UPPER: &str = "upper";

/// In a kept state: the changes as an archive.
const ARCHIVE: &str = "layer.tar";

/// An overlay needs a layer below, also of a base without any.
const NOTHING: &str = "nothing";

/// Where a guest's changes go; the directory is in the store, so that a kept state is only moved.
pub(crate) struct Guest {
    pub(crate) place: Arc<Place>,
    /// All but the root.
    template: SandboxSpec,
    directory: PathBuf,
    state: Mutex<State>,
}

struct State {
    session: Option<Arc<Session>>,
    /// One in which nothing runs any more.
    resting: Option<Resting>,
    root: Root,
    /// Names the directory of the changes; another one after each kept state.
    turn: usize,
}

/// The root as it is now.
#[derive(Clone)]
enum Root {
    /// What lies below the changes, the topmost first.
    Overlay(Vec<PathBuf>),
    /// One directory.
    Tree(Tree),
}

/// A root of one directory, and what it was.
#[derive(Clone)]
struct Tree {
    root: PathBuf,
    /// As the base had it.
    base: Arc<TreeManifest>,
    /// As the last kept state had it.
    state: Arc<TreeManifest>,
}

/// What a layer is made of.
#[derive(Clone)]
pub(crate) enum Changes {
    /// Upper directories, the newest first, and what lies below them.
    Union { uppers: Vec<PathBuf>, lowers: Vec<PathBuf> },
    /// What a tree differs in from its record.
    Difference { before: Arc<TreeManifest>, root: PathBuf },
}

impl Changes {
    /// Packs them as one layer.
    pub(crate) fn pack(&self, worker: &Worker, settings: &PackSettings, to: &mut dyn Write) -> Result<Packed, Failure> {
        match self {
            Changes::Union { uppers, lowers } => {
                let options =
                    PackOptions { uppers: uppers.clone(), lowers: lowers.clone(), settings: settings.clone() };
                worker.pack(&options, to).map_err(error::sandbox)
            }
            Changes::Difference { before, root } => pack_difference(before, root, settings, to).map_err(error::image),
        }
    }
}

/// A root at rest.
pub(crate) struct Ground {
    /// All that the steps changed, as one layer.
    pub(crate) squashed: Changes,
    /// The same as a layer for each kept state and one for what came after, the oldest first; `None` where it cannot be had.
    pub(crate) steps: Option<Vec<(Changes, Option<String>)>>,
    /// All files.
    pub(crate) whole: Changes,
    /// Something changed since the last kept state.
    pub(crate) is_changed: bool,
}

/// What changed since the last kept state.
pub(crate) struct Recent {
    changes: Changes,
    /// What is moved into the store, so that its size is that of the changes, where there is an overlay.
    pub(crate) directory: PathBuf,
    worker: Arc<Worker>,
}

impl Recent {
    /// Packs it: to nowhere, if `is_wanted`, for what packing finds; for a root without an overlay always, as that is what is
    /// kept. Blocks.
    pub(crate) fn collect(&self, settings: &PackSettings, is_wanted: bool) -> Result<Packed, Failure> {
        match &self.changes {
            Changes::Union { .. } if !is_wanted => Ok(Packed::default()),
            Changes::Union { .. } => self.changes.pack(&self.worker, settings, &mut std::io::sink()),
            Changes::Difference { .. } => {
                let path = self.directory.join(ARCHIVE);
                let file = std::fs::File::create(&path).map_err(error::local("create", &path))?;
                let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
                let packed = self.changes.pack(&self.worker, settings, &mut file)?;
                file.flush().map_err(error::local("write", &path))?;
                Ok(packed)
            }
        }
    }
}

impl Guest {
    /// Makes the workspace, whose undo is noted already; blocks.
    pub(crate) fn create(
        place: Arc<Place>,
        template: SandboxSpec,
        directory: PathBuf,
        base: &Base,
        states: &[StateEntry],
    ) -> Result<Guest, Failure> {
        std::fs::create_dir_all(&directory).map_err(error::local("create", &directory))?;
        let root = if place.chosen.isolation == Isolation::Chroot {
            Root::Tree(tree(&place, &directory, base, states)?)
        } else {
            Root::Overlay(lowers(states, base, &directory)?)
        };
        let state = State { session: None, resting: None, root: root.clone(), turn: 0 };
        let guest = Guest { place, template, directory, state: Mutex::new(state) };
        make_turn(&guest.directory, 0, &root)?;
        Ok(guest)
    }

    /// The running sandbox; started if there is none.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, SandboxError> {
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        end(&mut state).await?;
        let mut spec = self.template.clone();
        spec.root = match &state.root {
            Root::Tree(tree) => RootFs::Directory(tree.root.clone()),
            Root::Overlay(lowers) => RootFs::Overlay {
                lowers: lowers.clone(),
                upper: turn_directory(&self.directory, state.turn).join(UPPER),
                work: self.directory.join(format!("work-{}", state.turn)),
            },
        };
        let session = Arc::new(Session::start(spec, &self.place.helper).await?);
        state.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Ends what runs in it: from here on its root is as the steps left it, and may be read.
    pub(crate) async fn rest(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        rest(&mut state).await.map_err(error::sandbox)
    }

    /// The same, and waits until nothing is mounted any more: its root may be moved and written to.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        stop(&mut state).await.map_err(error::sandbox)
    }

    /// What changed since the last kept state; `below` is what lies under that. The guest must be at rest.
    pub(crate) async fn recent(&self, below: Vec<PathBuf>) -> Recent {
        let state = self.state.lock().await;
        let directory = turn_directory(&self.directory, state.turn);
        let changes = match &state.root {
            Root::Overlay(_) => Changes::Union { uppers: vec![directory.join(UPPER)], lowers: below },
            Root::Tree(tree) => Changes::Difference { before: Arc::clone(&tree.state), root: tree.root.clone() },
        };
        Recent { changes, directory, worker: Arc::clone(&self.place.worker) }
    }

    /// Hands the changes since the last kept state to `keep`, which moves them away and says what lies below from now on, and
    /// goes on with a fresh directory. `keep` blocks. The guest must be stopped.
    pub(crate) async fn turn<T: Send + 'static>(
        &self,
        keep: impl FnOnce(&Path) -> Result<(Vec<PathBuf>, T), Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut state = self.state.lock().await;
        let (directory, turn, mut root) = (self.directory.clone(), state.turn, state.root.clone());
        let (root, kept) = error::blocking(move || {
            let (lowers, kept) = keep(&turn_directory(&directory, turn))?;
            match &mut root {
                Root::Overlay(old) => *old = lowers,
                Root::Tree(tree) => tree.state = record(&tree.root)?,
            }
            make_turn(&directory, turn + 1, &root)?;
            Ok((root, kept))
        })
        .await?;
        state.root = root;
        state.turn += 1;
        Ok(kept)
    }

    /// The present root, at rest.
    pub(crate) async fn ground(&self, states: &[StateEntry], base: &Base) -> Result<Ground, Failure> {
        let mut state = self.state.lock().await;
        stop(&mut state).await.map_err(error::sandbox)?;
        let upper = turn_directory(&self.directory, state.turn).join(UPPER);
        match state.root.clone() {
            Root::Overlay(_) => overlay_ground(upper, states, base),
            Root::Tree(tree) => {
                let changes = Changes::Difference { before: Arc::clone(&tree.state), root: tree.root.clone() };
                let worker = Arc::clone(&self.place.worker);
                let found =
                    error::blocking(move || changes.pack(&worker, &PackSettings::default(), &mut std::io::sink()));
                Ok(Ground {
                    is_changed: found.await?.entries > 0,
                    squashed: Changes::Difference { before: tree.base, root: tree.root.clone() },
                    steps: None,
                    whole: Changes::Difference { before: Arc::default(), root: tree.root },
                })
            }
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// What is moved into the store when the present state is kept.
fn turn_directory(directory: &Path, turn: usize) -> PathBuf {
    directory.join(format!("state-{turn}"))
}

fn make_turn(directory: &Path, turn: usize, root: &Root) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let upper = turn_directory(directory, turn).join(UPPER);
    let work = directory.join(format!("work-{turn}"));
    for made in [&upper, &work] {
        std::fs::create_dir_all(made).map_err(error::local("create", made))?;
    }
    // An overlay's `/` is as its topmost layer has it.
    let below = match root {
        Root::Overlay(lowers) => lowers.first().and_then(|lower| std::fs::metadata(lower).ok()),
        Root::Tree(_) => None,
    };
    let mode = below.map_or(0o755, |metadata| metadata.permissions().mode() & 0o7777);
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(mode)).map_err(error::local("create", upper))
}

fn overlay_ground(upper: PathBuf, states: &[StateEntry], base: &Base) -> Result<Ground, Failure> {
    let is_changed = std::fs::read_dir(&upper).map_err(error::local("read", &upper))?.next().is_some();
    let mut uppers = state_uppers(states);
    let mut titles: Vec<Option<String>> = states.iter().map(|state| Some(state.info.title.clone())).collect();
    if is_changed {
        uppers.insert(0, upper);
        titles.insert(0, None);
    }
    let step = |index: usize| {
        let lowers = uppers[index + 1..].iter().chain(&base.lowers).cloned().collect();
        (Changes::Union { uppers: vec![uppers[index].clone()], lowers }, titles[index].clone())
    };
    let steps = (0..uppers.len()).rev().map(step).collect();
    let all = uppers.iter().chain(&base.lowers).cloned().collect();
    Ok(Ground {
        is_changed,
        steps: Some(steps),
        squashed: Changes::Union { uppers, lowers: base.lowers.clone() },
        whole: Changes::Union { uppers: all, lowers: Vec::new() },
    })
}

async fn stop(state: &mut State) -> Result<(), SandboxError> {
    rest(state).await?;
    end(state).await
}

async fn end(state: &mut State) -> Result<(), SandboxError> {
    match state.resting.take() {
        Some(resting) => resting.end().await,
        None => Ok(()),
    }
}

async fn rest(state: &mut State) -> Result<(), SandboxError> {
    let Some(session) = state.session.take() else { return Ok(()) };
    match Arc::try_unwrap(session) {
        Ok(session) => {
            state.resting = Some(session.rest().await?);
            Ok(())
        }
        // Somebody still waits for a command, and lets go of it some time.
        Err(session) => {
            state.session = Some(session);
            Err(SandboxError::Invalid("a command still runs in the machine".to_owned()))
        }
    }
}

/// The upper directories of states, in their order.
pub(crate) fn state_uppers(states: &[StateEntry]) -> Vec<PathBuf> {
    states.iter().map(|state| state.directory.join(UPPER)).collect()
}

/// What lies below the changes: states, then the base.
fn lowers(states: &[StateEntry], base: &Base, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut lowers = state_uppers(states);
    lowers.extend(base.lowers.iter().cloned());
    if lowers.is_empty() {
        let nothing = directory.join(NOTHING);
        std::fs::create_dir_all(&nothing).map_err(error::local("create", &nothing))?;
        lowers.push(nothing);
    }
    Ok(lowers)
}

/// A copy of the base with all that the states changed.
fn tree(place: &Place, directory: &Path, base: &Base, states: &[StateEntry]) -> Result<Tree, Failure> {
    let root = directory.join("root");
    match base.lowers.first() {
        Some(from) => {
            let task = Task::Copy { from: from.clone(), to: root.clone() };
            place.worker.run(&task, None, None).map_err(error::sandbox)?;
        }
        None => std::fs::create_dir_all(&root).map_err(error::local("create", &root))?,
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).map_err(error::local("create", &root))?;
    let before = record(&root)?;
    let options = UnpackOptions { devices: Devices::All, ..UnpackOptions::new(TreeFormat::Plain) };
    for state in states.iter().rev() {
        let path = state.directory.join(ARCHIVE);
        let file = std::fs::File::open(&path).map_err(error::local("read", &path))?;
        place.worker.unpack(file, &root, &options).map_err(error::sandbox)?;
    }
    let state = if states.is_empty() { Arc::clone(&before) } else { record(&root)? };
    Ok(Tree { root, base: before, state })
}

fn record(root: &Path) -> Result<Arc<TreeManifest>, Failure> {
    let covered = kiln_sandbox::COVERED.map(|path| path.trim_start_matches('/'));
    TreeManifest::record_with(root, &covered).map(Arc::new).map_err(error::image)
}
