//! The guest: its root in a workspace of the build, and the sandbox that runs on it when something needs one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::Failure;
use kiln_sandbox::{RootFs, SandboxError, SandboxSpec, Session};
use tokio::sync::Mutex;

use crate::error;
use crate::place::Place;

/// Where a guest's changes go; the directory is in the store, so that a kept state is only moved.
pub(crate) struct Guest {
    pub(crate) place: Arc<Place>,
    /// All but the root.
    template: SandboxSpec,
    directory: PathBuf,
    state: Mutex<State>,
}

/// The root as it is now.
struct State {
    session: Option<Arc<Session>>,
    /// What lies below the changes, the topmost first.
    lowers: Vec<PathBuf>,
    /// Names the directory of the changes; another one after each kept state.
    turn: usize,
}

impl Guest {
    /// Makes the workspace, whose undo is noted already.
    pub(crate) fn create(
        place: Arc<Place>,
        template: SandboxSpec,
        directory: PathBuf,
        lowers: Vec<PathBuf>,
    ) -> Result<Guest, Failure> {
        std::fs::create_dir_all(&directory).map_err(error::local("create", &directory))?;
        let guest = Guest { place, template, directory, state: Mutex::new(State { session: None, lowers, turn: 0 }) };
        guest.make_turn(0)?;
        Ok(guest)
    }

    /// What is moved into the store when the present state is kept: it holds `upper`.
    pub(crate) fn turn_directory(&self, turn: usize) -> PathBuf {
        self.directory.join(format!("state-{turn}"))
    }

    fn make_turn(&self, turn: usize) -> Result<(), Failure> {
        let upper = self.turn_directory(turn).join("upper");
        std::fs::create_dir_all(&upper).map_err(error::local("create", &upper))?;
        // The mode of the guest's `/`.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o755))
            .map_err(error::local("create", &upper))?;
        let work = self.directory.join(format!("work-{turn}"));
        std::fs::create_dir_all(&work).map_err(error::local("create", work))
    }

    /// The running sandbox; started if there is none.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, SandboxError> {
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        let mut spec = self.template.clone();
        spec.root = RootFs::Overlay {
            lowers: state.lowers.clone(),
            upper: self.turn_directory(state.turn).join("upper"),
            work: self.directory.join(format!("work-{}", state.turn)),
        };
        let session = Arc::new(Session::start(spec, &self.place.helper).await?);
        state.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Ends what runs in it: from here on its root is as the steps left it.
    pub(crate) async fn stop(&self) -> Result<(), SandboxError> {
        let mut state = self.state.lock().await;
        stop(&mut state).await
    }

    /// Stops, hands the changes since the last kept state to `keep`, which moves them away and says what lies below from
    /// now on, and goes on with a fresh directory.
    pub(crate) async fn turn<F>(&self, keep: impl FnOnce(PathBuf) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<Vec<PathBuf>, Failure>>,
    {
        let mut state = self.state.lock().await;
        stop(&mut state).await.map_err(error::sandbox)?;
        let lowers = keep(self.turn_directory(state.turn)).await?;
        let turn = state.turn + 1;
        self.make_turn(turn)?;
        state.turn = turn;
        state.lowers = lowers;
        Ok(())
    }

    /// The directory of the changes since the last kept state.
    pub(crate) async fn upper(&self) -> PathBuf {
        let state = self.state.lock().await;
        self.turn_directory(state.turn).join("upper")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

async fn stop(state: &mut State) -> Result<(), SandboxError> {
    let Some(session) = state.session.take() else { return Ok(()) };
    match Arc::try_unwrap(session) {
        Ok(session) => session.stop().await,
        // Somebody still waits for a command: what they wait for ends with the sandbox, when they let go of it.
        Err(session) => {
            state.session = Some(session);
            Err(SandboxError::Invalid("a command still runs in the machine".to_owned()))
        }
    }
}
