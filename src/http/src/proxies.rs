//! Which hosts are asked through which proxy.

use std::collections::BTreeMap;

use reqwest::{NoProxy, Proxy};

/// Go's clients never ask a proxy for loopback addresses, and people rely on it.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, also in lower case, which goes first as in curl.
pub(crate) fn proxies(environment: &BTreeMap<String, String>, direct: &[&str]) -> reqwest::Result<Vec<Proxy>> {
    let set = |name: &str| {
        let either = environment.get(&name.to_lowercase()).or_else(|| environment.get(name));
        either.filter(|value| !value.is_empty())
    };
    let mut except = vec![LOOPBACK];
    except.extend(direct);
    except.extend(set("NO_PROXY").map(String::as_str));
    let except = NoProxy::from_string(&except.join(","));
    let mut proxies = Vec::new();
    if let Some(url) = set("HTTP_PROXY") {
        proxies.push(Proxy::http(url.as_str())?.no_proxy(except.clone()));
    }
    if let Some(url) = set("HTTPS_PROXY") {
        proxies.push(Proxy::https(url.as_str())?.no_proxy(except));
    }
    Ok(proxies)
}
