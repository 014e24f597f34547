//! What the instance may do in the cloud.

use kiln_core::{EntryId, Failure};
use serde_json::json;

use crate::cloud::{CloudResult, ErrorKind};
use crate::config::Policy;
use crate::error::{failure, wrong};
use crate::launch::Attempt;
use crate::undo::ProfileUndo;

/// The instance profile, and its entry where it is a temporary one.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) name: Option<String>,
    pub(crate) temporary: Option<(EntryId, ProfileUndo)>,
}

impl Attempt<'_> {
    /// Checks the profile of the template, or makes one.
    pub(crate) async fn profile(&self) -> Result<Profile, Failure> {
        let config = self.config();
        if let Some(name) = config.iam_instance_profile.clone().filter(|name| !name.is_empty()) {
            if !config.skip_profile_validation {
                let found = self.cloud.has_instance_profile(&name).await;
                let is_there = found.map_err(|error| {
                    failure(format!("look up the instance profile {name}"), error)
                        .hint("`skip_profile_validation = true` leaves this out")
                })?;
                if !is_there {
                    return Err(wrong(format!("there is no instance profile {name}")));
                }
            }
            return Ok(Profile { name: Some(name), temporary: None });
        }
        match &config.temporary_iam_instance_profile_policy_document {
            Some(policy) => self.temporary_profile(policy).await,
            None => Ok(Profile::default()),
        }
    }

    async fn temporary_profile(&self, policy: &Policy) -> Result<Profile, Failure> {
        let name = self.marks.name();
        let undo = ProfileUndo { place: self.place(), name: name.clone() };
        let entry = self.record(undo.entry())?;
        self.context.events.message(format!("making the instance profile {name}"));
        let tags = self.run_tags();
        let step = |what: &str, result: CloudResult<()>| match result {
            // By an earlier try of the same call: nobody else has that name.
            Err(error) if error.kind == ErrorKind::Duplicate => Ok(()),
            result => result.map_err(|error| failure(format!("make {what} {name}"), error)),
        };
        let role = self.cloud.create_role(&name, "Temporary role of a kiln build", &tags).await;
        if let Some(error) = role.as_ref().err().filter(|error| error.kind != ErrorKind::Duplicate) {
            self.strike_refused(entry, error)?;
        }
        step("the role", role)?;
        step("the policy of role", self.cloud.put_role_policy(&name, &name, &document(policy)).await)?;
        step("the instance profile", self.cloud.create_instance_profile(&name, &tags).await)?;
        match self.cloud.add_role(&name, &name).await {
            // `LimitExceeded`: a profile has one role, and an earlier try gave it ours.
            Err(error) if error.code.starts_with("LimitExceeded") => {}
            result => step("the role of instance profile", result)?,
        }
        Ok(Profile { name: Some(name), temporary: Some((entry, undo)) })
    }
}

fn document(policy: &Policy) -> String {
    let statements: Vec<_> = policy
        .statement
        .iter()
        .map(
            |statement| json!({"Effect": statement.effect, "Action": statement.action, "Resource": statement.resource}),
        )
        .collect();
    let version = policy.version.clone().unwrap_or_else(|| "2012-10-17".to_owned());
    json!({"Version": version, "Statement": statements}).to_string()
}
