//! The table of the options.

use kiln_core::{Field, FieldType};

/// Accepted for what Packer takes; told where it would matter.
const fn other(name: &'static str) -> Field {
    Field::new(name, FieldType::Any, "Of Windows machines, which kiln does not reach: accepted, without effect.")
}

const fn number(name: &'static str, doc: &'static str) -> Field {
    Field::new(name, FieldType::Integer, doc)
}

/// All options of a source that is reached over SSH: Packer's, then kiln's own. A builder joins them with its own
/// arguments, see [`Field::joined`].
pub const FIELDS: &[Field] = &[
    Field::string("communicator", "How the machine is reached: `ssh`, or `none` where it is not.").default("ssh"),
    Field::duration(
        "pause_before_connecting",
        "Once the machine can be logged in to, leave it alone for so long, then connect anew.",
    ),
    Field::string("ssh_host", "Name or address of the machine."),
    number("ssh_port", "Port of its SSH server.").default("22"),
    Field::string("ssh_username", "User to log in as."),
    Field::string("ssh_password", "Password, also the answer where the server asks for one (`keyboard-interactive`)."),
    Field::string("ssh_private_key_file", "A private key: `~/` is the home. One with a passphrase asks for it."),
    Field::new(
        "ssh_private_key",
        FieldType::Any,
        "The private key itself, as text; for keys that come from a variable or a data source.",
    ),
    Field::new("ssh_public_key", FieldType::Any, "Accepted; without effect: the private key says it all."),
    Field::string("ssh_certificate_file", "An OpenSSH certificate for the private key."),
    Field::bool("ssh_agent_auth", "Log in with the keys of the agent at `SSH_AUTH_SOCK`."),
    Field::bool(
        "ssh_agent_forwarding",
        "Let commands on the machine use the agent at `SSH_AUTH_SOCK`. Who is root there can use it meanwhile.",
    ),
    Field::bool(
        "ssh_disable_agent_forwarding",
        "Not even where `ssh_config_file` has `ForwardAgent yes`. Without either the agent stays here.",
    ),
    Field::string("ssh_keypair_name", "Name of a key pair that the cloud has already."),
    Field::string("temporary_key_pair_name", "Name of the key pair that is made for the build."),
    Field::string("temporary_key_pair_type", "Kind of the key that is made: `ed25519`, `ecdsa` or `rsa`.")
        .default("ed25519"),
    number("temporary_key_pair_bits", "Bits of the key that is made: 4096 for RSA, 521 for ECDSA."),
    Field::bool(
        "ssh_clear_authorized_keys",
        "Take the key that was made out of the machine's `authorized_keys` at the end.",
    ),
    Field::strings(
        "ssh_ciphers",
        "Ciphers to offer, in this order. Those that kiln knows and thinks safe, where absent.",
    ),
    Field::strings("ssh_key_exchange_algorithms", "Key exchanges to offer, in this order."),
    Field::bool(
        "ssh_pty",
        "Run commands on a pseudo terminal; what they write to stderr then comes with their output.",
    ),
    Field::duration(
        "ssh_timeout",
        "How long to wait for the machine. Without `ssh_handshake_attempts`, logins are tried as long as that.",
    )
    .default("5m"),
    Field::duration("ssh_wait_timeout", "The same.").deprecated("ssh_timeout"),
    number(
        "ssh_handshake_attempts",
        "How many logins may be refused. Without `ssh_timeout`, there is no end to waiting for the machine.",
    )
    .default("10"),
    Field::string("ssh_keep_alive_interval", "How often to ask whether the machine is there; below zero: never.")
        .default("5s"),
    Field::duration(
        "ssh_read_write_timeout",
        "A connection over which nothing comes for so long is lost. Without it: never.",
    ),
    Field::new(
        "ssh_file_transfer_method",
        FieldType::OneOf(&["tar", "sftp", "scp"]),
        "How files travel. `tar`, the quick one, falls back to `sftp` where the machine has no `tar`.",
    )
    .default("tar"),
    Field::string(
        "ssh_bastion_host",
        "A host to go through; several with commas between them, each as `[USER@]HOST[:PORT]`.",
    ),
    number("ssh_bastion_port", "Port of the bastion.").default("22"),
    Field::string("ssh_bastion_username", "User on the bastion; that of the machine where absent."),
    Field::string("ssh_bastion_password", "Password on the bastion."),
    Field::bool("ssh_bastion_interactive", "Ask for the bastion's answers at the terminal."),
    Field::bool("ssh_bastion_agent_auth", "Log in to the bastion with the keys of the agent."),
    Field::string("ssh_bastion_private_key_file", "A private key for the bastion; that of the machine where absent."),
    Field::string("ssh_bastion_certificate_file", "A certificate for that key."),
    Field::string("ssh_proxy_host", "A proxy to go through. Not together with a bastion."),
    number("ssh_proxy_port", "Port of the proxy.").default("1080"),
    Field::string("ssh_proxy_username", "User at the proxy."),
    Field::string("ssh_proxy_password", "Password at the proxy."),
    Field::new("ssh_proxy_type", FieldType::OneOf(&["socks5", "http"]), "What the proxy speaks.").default("socks5"),
    Field::strings(
        "ssh_local_tunnels",
        "`PORT:HOST:HOSTPORT`: connections to this port of this host go on from the machine to there.",
    ),
    Field::strings(
        "ssh_remote_tunnels",
        "`PORT:HOST:HOSTPORT`: connections to this port of the machine go on from this host to there.",
    ),
    Field::strings(
        "ssh_host_key",
        "Keys that the machine may show: whole public keys or fingerprints (`SHA256:...`). Any other is refused.",
    ),
    Field::strings("ssh_bastion_host_key", "The same for bastions."),
    Field::string(
        "ssh_known_hosts_file",
        "Where to look for the machine's key, in place of `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`.",
    ),
    Field::bool(
        "ssh_accept_any_host_key",
        "Log in whatever key the machine shows, as Packer does. The output says so.",
    ),
    Field::string(
        "ssh_config_file",
        "An OpenSSH configuration to heed, such as `~/.ssh/config`. What stands in the template wins.",
    ),
    other("winrm_username"),
    other("winrm_password"),
    other("winrm_host"),
    other("winrm_no_proxy"),
    other("winrm_port"),
    other("winrm_timeout"),
    other("winrm_use_ssl"),
    other("winrm_insecure"),
    other("winrm_use_ntlm"),
];
