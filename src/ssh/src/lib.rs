//! SSH: sessions, logins, host keys, and the communicator over them.
