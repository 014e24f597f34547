//! From a request to an instance that runs.

use std::time::Duration;

use kiln_core::{EntryId, Failure};

use crate::cloud::{Cloud, CloudError, CloudResult, ErrorKind, Filter, InstanceInfo, RunRequest};
use crate::error::{failure, wrong};
use crate::launch::{Attempt, Beside};
use crate::pace::{Look, SETTLING, Wait, again_while};
use crate::undo::{InstanceUndo, now};

/// How long an instance may take to run, or to stop.
pub(crate) const STARTING: Duration = Duration::from_secs(10 * 60);

/// An instance with its entry.
pub(crate) struct Running {
    pub(crate) info: InstanceInfo,
    pub(crate) entry: EntryId,
}

/// Things that the request refers to were made a moment ago, and may not be known everywhere yet. Those that the template
/// names are known, or are not there.
fn is_too_new(error: &CloudError, beside: &Beside) -> bool {
    let is_profile =
        error.code == "InvalidParameterValue" && error.message.contains("nstance") && error.message.contains("rofile");
    is_profile
        || match error.code.as_str() {
            "InvalidKeyPair.NotFound" => beside.key.is_some(),
            "InvalidGroup.NotFound" | "InvalidSecurityGroupID.NotFound" => beside.groups.temporary.is_some(),
            _ => false,
        }
}

impl Attempt<'_> {
    /// Runs it on demand, and waits until it runs.
    pub(crate) async fn instance(&self, request: &RunRequest, beside: &mut Beside) -> Result<Running, Failure> {
        let token = request.client_token.clone();
        let mut undo = InstanceUndo {
            place: self.place(),
            filters: vec![("client-token".to_owned(), token.clone())],
            at: now(),
            id: None,
        };
        let entry = self.record(undo.entry())?;
        let kind = request.instance_type.as_deref().unwrap_or_default();
        self.context.events.message(format!("launching an instance of type {kind} from {}", self.source.id));
        // Not stopped halfway: EC2 would go on and launch an instance that nobody knows of.
        let may_repeat = |error: &CloudError| is_too_new(error, beside) && !self.context.cancel.is_cancelled();
        let run = again_while(self.pace(), SETTLING, may_repeat, || self.cloud.run_instance(request));
        let info = match run.await {
            Ok(info) => info,
            Err(error) if error.kind == ErrorKind::Lost => self.lost_instance(&token, error).await?,
            Err(error) => {
                self.strike_refused(entry, &error)?;
                return Err(failure("launch the instance", error));
            }
        };
        undo.id = Some(info.id.clone());
        undo.place.maker.is_told(info.owner.as_deref());
        self.context.journal.amend(entry, undo.entry())?;
        beside.tell_account(info.owner.as_deref(), &*self.context.journal)?;
        let info = self.wait_until_running(&info.id).await?;
        Ok(Running { info, entry })
    }

    /// The instance of a call whose answer was lost.
    async fn lost_instance(&self, token: &str, error: CloudError) -> Result<InstanceInfo, Failure> {
        let found = self.cloud.describe_instances(&[], &[Filter::new("client-token", token)]).await.unwrap_or_default();
        let is_alive = |info: &InstanceInfo| !matches!(info.state.as_str(), "terminated" | "shutting-down");
        found.into_iter().find(is_alive).ok_or_else(|| failure("launch the instance", error))
    }

    /// Waits until it runs and has its addresses.
    pub(crate) async fn wait_until_running(&self, id: &str) -> Result<InstanceInfo, Failure> {
        self.context.events.message(format!("waiting until instance {id} runs"));
        let what = format!("instance {id} runs");
        let wait = Wait { what, limit: STARTING, pace: self.pace(), context: Some(self.context) };
        wait.until(|| look(&*self.cloud, id, "running")).await
    }
}

/// Whether an instance is in a state. One that ends by itself is a failure.
pub(crate) async fn look(
    cloud: &dyn Cloud,
    id: &str,
    wanted: &str,
) -> Result<CloudResult<Look<InstanceInfo>>, Failure> {
    let info = match cloud.describe_instances(&[id.to_owned()], &[]).await {
        Ok(mut found) if !found.is_empty() => found.remove(0),
        Ok(_) => return Ok(Ok(Look::NotYet("not known yet".to_owned()))),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Ok(Look::NotYet("not known yet".to_owned()))),
        Err(error) => return Ok(Err(error)),
    };
    if info.state == wanted {
        return Ok(Ok(Look::Done(info)));
    }
    if matches!(info.state.as_str(), "terminated" | "shutting-down") || (wanted == "running" && info.state == "stopped")
    {
        let why = info.state_reason.as_deref().unwrap_or("EC2 does not say why");
        return Err(wrong(format!("instance {id} is {} instead of {wanted}: {why}", info.state)));
    }
    Ok(Ok(Look::NotYet(info.state)))
}
