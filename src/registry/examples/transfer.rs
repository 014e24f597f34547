//! Pulls, pushes and copies from the command line; for measuring and for trying things out.
//!
//! ```text
//! transfer push LAYOUT REFERENCE...     the image that the layout's index names first
//! transfer pull REFERENCE LAYOUT
//! transfer copy REFERENCE REFERENCE...
//! transfer resolve|tags|untag REFERENCE
//! ```
//!
//! Logins come from the usual places. Options by environment: `JOBS`, `INSECURE` (hosts, by commas).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use kiln_image::{Digest, ImageIndex, Layout};
use kiln_registry::{Client, ClientOptions, CredentialSources, PullOptions, PushOptions, Reference, no_progress};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let home = std::env::var("HOME").ok();
    let credentials = CredentialSources::usual(std::env::vars().collect(), home.as_deref().map(Path::new));
    let insecure = std::env::var("INSECURE").unwrap_or_default().split(',').map(str::to_owned).collect();
    let notes = Arc::new(|note| eprintln!("{note}"));
    let client = Client::new(ClientOptions { credentials, insecure, notes, ..ClientOptions::default() });
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(4);
    let push = PushOptions { jobs, ..PushOptions::default() };

    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["push", layout, references @ ..] => {
            let index: ImageIndex = serde_json::from_slice(&std::fs::read(Path::new(layout).join("index.json"))?)?;
            let first = index.manifests().first().ok_or("the layout names no image")?;
            let digest = Digest::parse(first.digest().as_ref())?;
            let layout = Layout::create(*layout)?;
            let pushed = client.push(&layout, &digest, &parse(references)?, &push, no_progress()).await?;
            println!("{pushed:?}");
        }
        ["pull", reference, layout] => {
            let layout = Layout::create(*layout)?;
            let options = PullOptions { jobs, ..PullOptions::default() };
            let pulled = client.pull(&Reference::parse(reference)?, &layout, &options, no_progress()).await?;
            println!("{pulled:?}");
        }
        ["copy", from, to @ ..] => {
            let pushed = client.copy(&Reference::parse(from)?, &parse(to)?, &push, no_progress()).await?;
            println!("{pushed:?}");
        }
        ["resolve", reference] => println!("{:?}", client.resolve(&Reference::parse(reference)?).await?),
        ["tags", reference] => println!("{}", client.tags(&Reference::parse(reference)?).await?.join("\n")),
        ["untag", reference] => client.untag(&Reference::parse(reference)?).await?,
        _ => return Err("usage: transfer push LAYOUT REFERENCE... | pull REFERENCE LAYOUT | copy FROM TO... | resolve|tags|untag REFERENCE".into()),
    }
    Ok(())
}

fn parse(references: &[&str]) -> Result<Vec<Reference>, Box<dyn Error>> {
    Ok(references.iter().map(|text| Reference::parse(text)).collect::<Result<_, _>>()?)
}
