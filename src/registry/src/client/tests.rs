//! The client against a registry that does as it is told.

use crate::options::{ClientOptions, PullOptions, PushOptions, no_progress};
use crate::{Client, Reference};
use kiln_image::{Digest, Layout};

/// Callers spawn these.
#[test]
fn all_calls_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    let client = Client::new(ClientOptions::default()).unwrap();
    let reference = Reference::parse("localhost:1/a").unwrap();
    let (pull, push) = (PullOptions::default(), PushOptions::default());
    check(client.resolve(&reference));
    check(client.pull(&reference, &layout, &pull, no_progress()));
    check(client.push(&layout, &Digest::of(b""), std::slice::from_ref(&reference), &push, no_progress()));
    check(client.copy(&reference, std::slice::from_ref(&reference), &push, no_progress()));
    check(client.start_upload(&reference));
    check(client.tags(&reference));
    check(client.untag(&reference));
    check(client.retag(&reference, &[]));
}
