//! Files by SFTP.

use std::path::Path;

use kiln_core::Payload;
use kiln_core::communicator::{CommunicatorError, Downloaded};

use super::SshCommunicator;
use super::link::refused;

impl SshCommunicator {
    pub(super) async fn upload_by_sftp(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        let _ = payload;
        Err(refused(format!("upload to {to}"), "no tar"))
    }

    pub(super) async fn download_by_sftp(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let _ = to;
        Err(refused(format!("download {from}"), "no tar"))
    }
}
