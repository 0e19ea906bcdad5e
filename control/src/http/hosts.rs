//! By which names clients may call this director, and whether they do so in the form that HTTP asks for.
//!
//! A page of a stranger can make a browser ask weir, by a name of the stranger's that leads to weir's address (DNS
//! rebinding), and then read the answer. The browser says that name in `Host`. So only names that no stranger can make
//! lead here are answered: addresses, `localhost`, the machine's own name, and the names that the file gives.
//!
//! A request of HTTP/1.1 has exactly one `Host`, of a form that can be a host (RFC 9112, 3.2). What two parties read in two ways, such as two
//! of them, is what attacks are made of.

use std::net::{IpAddr, Ipv6Addr};
use std::str::from_utf8;

use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri, Version};

/// The names, in lower case.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The machine's, as it is written.
    own: String,
    names: Vec<String>,
}

impl Hosts {
    /// With the names of the file, and the machine's.
    pub(super) fn new(names: &[String]) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = names.iter().cloned().chain([own.clone(), "localhost".to_owned()]);
        let own = own.chars().filter(|letter| !letter.is_control()).collect();
        Self { own, names: all.map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// The machine's own name.
    pub(super) fn own(&self) -> &str {
        &self.own
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
        let Some(name) = host_in(authority) else { return false };
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        name.parse::<IpAddr>().is_ok() || self.names.iter().any(|ours| ours == name)
    }
}

/// What is wrong with the way in which a request names its host, in words; `None`: nothing.
pub(super) fn fault(version: Version, headers: &HeaderMap) -> Option<String> {
    let mut said = headers.get_all(HOST).iter();
    match (said.next(), said.next()) {
        (None, _) if version < Version::HTTP_11 => None,
        (None, _) => Some("a request of HTTP/1.1 needs a Host line, and this one has none".to_owned()),
        (Some(_), Some(_)) => Some("a request has one Host line, and this one has several".to_owned()),
        (Some(host), None) if from_utf8(host.as_bytes()).ok().and_then(host_in).is_none() => {
            Some(format!("\"{}\" is no host, with a port or without", host.as_bytes().escape_ascii()))
        }
        (Some(_), None) => None,
    }
}

/// The host in `HOST` or `HOST:PORT`, without the brackets of an IPv6 address; `None`: it is neither. The form is RFC 3986's (3.2.2).
fn host_in(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (address, rest) = inside.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, rest)
        }
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (host, is_name(host).then_some(rest)?)
        }
    };
    // A port may be left out behind its colon.
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// A name as in a URI: unreserved characters, those that delimit parts, and bytes as `%` and two digits.
fn is_name(host: &str) -> bool {
    let mut bytes = host.bytes();
    while let Some(byte) = bytes.next() {
        let is_good = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_good {
            return false;
        }
    }
    !host.is_empty()
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
            "localhost:+80",
            "::1",
            "user@localhost",
            "[::1]evil.example",
        ] {
            assert!(!hosts.holds(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_request_names_one_host_of_a_form_that_can_be_one() {
        let fault = |version: Version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, axum::http::HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            fault(version, &headers)
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(fault(old, &[]), None);
        assert!(fault(new, &[]).unwrap().contains("has none"));
        for version in [old, new] {
            assert!(fault(version, &["a", "a"]).unwrap().contains("has several"));
            for good in
                ["a", "A.example.:80", "localhost:", "10.0.0.1:1", "[::1]:9292", "x_y", "a%20b", "a,b"]
            {
                assert_eq!(fault(version, &[good]), None, "{good}");
            }
            for bad in [
                "",
                ":80",
                "a b",
                "a, b",
                "a/b",
                "http://a",
                "u@a",
                "a:b",
                "a:80:80",
                "a:65536",
                "a:+1",
                "[::1",
                "::1",
                "[1.2.3.4]",
                "[a]",
                "[::1]a",
                "a%2",
                "a%zz",
                "a\tb",
                "\"a\"",
                "a\\b",
                "<a>",
                "\u{e4}",
                "a?b",
                "a#b",
            ] {
                assert!(fault(version, &[bad]).unwrap().contains("is no host"), "{bad}");
            }
        }
        assert_eq!(fault(new, &["\"\u{e4}"]).unwrap(), r#""\"\xc3\xa4" is no host, with a port or without"#);
    }
}
