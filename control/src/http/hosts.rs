//! By which names clients may call this director.
//!
//! A page of a stranger can make a browser ask weir, by a name of the stranger's that leads to weir's address (DNS
//! rebinding), and then read the answer. The browser says that name in `Host`. So only names that no stranger can make
//! lead here are answered: addresses, `localhost`, the machine's own name, and the names that the file gives.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};

/// The names, in lower case.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// With the names of the file, and the machine's.
    pub(super) fn new(names: &[String]) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = names.iter().cloned().chain([own, "localhost".to_owned()]);
        Self { names: all.map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// The name in a request that is none of ours; `None` if the request may be answered. A request without a name
    /// (HTTP/1.0) comes from no browser.
    pub(super) fn foreign(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let lossy = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let said = headers.get_all(HOST).iter().map(lossy);
        let mut all = uri.authority().map(|authority| authority.as_str().to_owned()).into_iter().chain(said);
        all.find(|authority| !self.holds(authority))
    }

    fn holds(&self, authority: &str) -> bool {
        let (name, rest) = match authority.strip_prefix('[') {
            Some(inside) => {
                let Some((address, rest)) = inside.split_once(']') else { return false };
                if address.parse::<Ipv6Addr>().is_err() {
                    return false;
                }
                (address, rest)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let is_port =
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        is_port && (name.parse::<IpAddr>().is_ok() || self.names.iter().any(|ours| ours == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_stranger_can_make_lead_here_are_ours() {
        let hosts = Hosts::new(&["Director1.example.com".to_owned()]);
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for ours in
            ["127.0.0.1:9292", "10.0.0.1", "[::1]:9292", "[2001:db8::1]", "localhost", "LOCALHOST:80", &own]
        {
            assert!(hosts.holds(ours), "{ours}");
        }
        assert!(hosts.holds("director1.EXAMPLE.com:9292") && hosts.holds("director1.example.com."));
        for foreign in [
            "evil.example",
            "evil.example:9292",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            ":9292",
            "[::1",
            "[evil.example]",
            "[127.0.0.1]",
            "localhost:x",
            "localhost:99999",
            "localhost:80:80",
            "::1",
            "user@localhost",
            "[::1]evil.example",
        ] {
            assert!(!hosts.holds(foreign), "{foreign}");
        }
    }
}
