//! What libssh2's errors mean.

use libssh2_sys as raw;
use ssh2::{Error, ErrorCode};

use crate::SshError;

/// Not yet: the peer has to answer first.
pub(super) fn is_again(error: &Error) -> bool {
    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_EAGAIN)
}

/// Whether the connection cannot be used after it.
pub(super) fn is_fatal(error: &Error) -> bool {
    let ErrorCode::Session(code) = error.code() else { return false };
    matches!(
        code,
        raw::LIBSSH2_ERROR_INVALID_MAC
            | raw::LIBSSH2_ERROR_KEX_FAILURE
            | raw::LIBSSH2_ERROR_ALLOC
            | raw::LIBSSH2_ERROR_SOCKET_SEND
            | raw::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
            | raw::LIBSSH2_ERROR_TIMEOUT
            | raw::LIBSSH2_ERROR_HOSTKEY_INIT
            | raw::LIBSSH2_ERROR_HOSTKEY_SIGN
            | raw::LIBSSH2_ERROR_DECRYPT
            | raw::LIBSSH2_ERROR_SOCKET_DISCONNECT
            | raw::LIBSSH2_ERROR_PROTO
            | raw::LIBSSH2_ERROR_SOCKET_TIMEOUT
            | raw::LIBSSH2_ERROR_OUT_OF_BOUNDARY
            | raw::LIBSSH2_ERROR_SOCKET_RECV
            | raw::LIBSSH2_ERROR_ENCRYPT
            | raw::LIBSSH2_ERROR_BAD_SOCKET
            | raw::LIBSSH2_ERROR_RANDGEN
    )
}

/// The connection ended, in libssh2's words.
pub(super) fn lost(error: &Error) -> SshError {
    match error.code() {
        ErrorCode::Session(raw::LIBSSH2_ERROR_SOCKET_DISCONNECT) => SshError::Lost("the machine closed it".to_owned()),
        _ => SshError::Lost(error.message().to_owned()),
    }
}
