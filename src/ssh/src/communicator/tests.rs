//! The communicator on a real sshd.
