//! The way to an instance through Systems Manager: AWS's own plug-in opens a port of this host.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::Failure;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::cloud::{Cloud, CloudError, ErrorKind, SessionInfo, SessionRequest};
use crate::error::failure;
use crate::launch::Attempt;
use crate::pace::again_while;

/// AWS's plug-in.
const PLUGIN: &str = "session-manager-plugin";

/// How long the instance's agent may take to report.
const AGENT: Duration = Duration::from_secs(5 * 60);

/// A session that is open; the plug-in ends with it.
pub(crate) struct Session {
    pub(crate) port: u16,
    cloud: Arc<dyn Cloud>,
    id: String,
    plugin: Child,
}

impl Session {
    /// Closes it.
    pub(crate) async fn close(mut self) {
        // It is of no use any more either way, and ends by itself when nobody uses it.
        let _ = self.plugin.kill().await;
        let _ = self.cloud.terminate_session(&self.id).await;
    }
}

impl Attempt<'_> {
    /// Opens a session for the SSH port of an instance.
    pub(crate) async fn open_session(&self, instance: &str) -> Result<Session, Failure> {
        if let Some(pause) = self.config().pause_before_ssm.filter(|pause| !pause.is_zero()) {
            self.context.unless_cancelled(tokio::time::sleep(pause)).await?;
        }
        let port = self.local_port().await?;
        let request =
            SessionRequest { instance: instance.to_owned(), remote_port: self.builder.ssh.port(), local_port: port };
        self.context.events.message(format!("opening a session of Systems Manager for instance {instance}"));
        // The agent reports a while after the instance runs; until then it is not known.
        let is_early = |error: &CloudError| {
            (error.code == "TargetNotConnected" || error.kind == ErrorKind::NotFound)
                && !self.context.cancel.is_cancelled()
        };
        let start = again_while(self.pace(), AGENT, is_early, || self.cloud.start_session(&request));
        let info = self.context.unless_cancelled(start).await?.map_err(|error| {
            failure(format!("open a session for instance {instance}"), error)
                .hint("the AMI needs the SSM agent, and the instance profile the policy AmazonSSMManagedInstanceCore")
        })?;
        self.context.redactor.add(info.token.expose());
        let plugin = match self.start_plugin(&info, &request) {
            Ok(plugin) => plugin,
            Err(failure) => {
                let _ = self.cloud.terminate_session(&info.id).await;
                return Err(failure);
            }
        };
        Ok(Session { port, cloud: Arc::clone(&self.cloud), id: info.id, plugin })
    }

    async fn local_port(&self) -> Result<u16, Failure> {
        if let Some(port) =
            self.config().session_manager_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
        {
            return Ok(port);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::environment)?;
        Ok(listener.local_addr().map_err(Failure::environment)?.port())
    }

    fn start_plugin(&self, info: &SessionInfo, request: &SessionRequest) -> Result<Child, Failure> {
        let parameters = json!({
            "Target": request.instance,
            "DocumentName": "AWS-StartPortForwardingSession",
            "Parameters": {
                "portNumber": [request.remote_port.to_string()],
                "localPortNumber": [request.local_port.to_string()],
            },
        });
        // The token stays out of `ps`: the plug-in reads it from the environment where its argument names a variable.
        let response =
            json!({"SessionId": info.id, "StreamUrl": info.stream_url, "TokenValue": info.token.expose()}).to_string();
        let spawned = Command::new(PLUGIN)
            .arg("AWS_SSM_START_SESSION_RESPONSE")
            .arg(self.cloud.region())
            .arg("StartSession")
            .arg(info.profile.as_deref().unwrap_or_default())
            .arg(parameters.to_string())
            .arg(&info.endpoint)
            .env_clear()
            .envs(&self.builder.settings.ssh.environment)
            .env("AWS_SSM_START_SESSION_RESPONSE", response)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        spawned.map_err(|error| {
            Failure::environment(format!("cannot start {PLUGIN}: {error}"))
                .hint("install AWS's plug-in of Systems Manager for the AWS command line")
        })
    }
}
