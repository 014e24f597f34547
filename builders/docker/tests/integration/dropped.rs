//! Commands whose call was dropped. Needs a Docker engine with `debian:bookworm`; skipped loudly without one.

use kiln_core::communicator::NullSink;
use kiln_core::{Command, Communicator, OutputSink, Stream};
use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{BASE, World, output};

/// Tells when the command says something.
struct FirstWord(Option<oneshot::Sender<()>>);

impl OutputSink for FirstWord {
    fn write(&mut self, _stream: Stream, _chunk: &[u8]) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

async fn start_and_drop(communicator: &dyn Communicator, command: &Command) {
    let (sender, said) = oneshot::channel();
    let mut sink = FirstWord(Some(sender));
    tokio::select! {
        ended = communicator.exec(command, &mut sink) => panic!("it ended: {ended:?}"),
        said = said => said.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_takes_all_its_processes_with_it_and_no_others() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    let communicator = machine.communicator();
    // A service of an earlier step, which goes on.
    let service = Command::shell("sleep 1001 >/dev/null 2>&1 &");
    assert!(communicator.exec(&service, &mut NullSink).await.unwrap().is_success());
    // In the background, without the environment, in a session of its own, as another user.
    let script = "sleep 1002 & env -i sleep 1003 & setsid sleep 1004 & echo started; exec sleep 1005";
    start_and_drop(communicator, &Command::shell(script)).await;
    let other = Command { user: Some("nobody".into()), ..Command::shell("sleep 1006 & echo started; wait") };
    start_and_drop(communicator, &other).await;
    communicator.end_dropped().await.unwrap();
    let running =
        "for p in /proc/[0-9]*; do [ \"$(head -c5 $p/cmdline)\" = sleep ] && tr '\\0' ' ' <$p/cmdline; done; true";
    assert_eq!(output(&*machine, running).await.trim(), "sleep 1001");
    machine.destroy(&world.context).await.unwrap();
}
