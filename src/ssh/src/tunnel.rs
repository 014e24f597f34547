//! Tunnels: ports of one side that lead to the other.

/// `PORT:HOST:HOSTPORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The port that listens, on the loopback address.
    pub port: u16,
    /// Where its connections go on to.
    pub host: String,
    /// The port there.
    pub host_port: u16,
}

impl std::str::FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Tunnel, String> {
        let form = || format!("`{text}` is not of the form `PORT:HOST:HOSTPORT`");
        let (port, target) = text.split_once(':').ok_or_else(form)?;
        let (host, host_port) = target.rsplit_once(':').ok_or_else(form)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let number = |port: &str| port.parse::<u16>().map_err(|_| format!("`{port}` in `{text}` is not a port"));
        if host.is_empty() || (host.contains(':') && !target.starts_with('[')) {
            return Err(form());
        }
        Ok(Tunnel { port: number(port)?, host: host.to_owned(), host_port: number(host_port)? })
    }
}
