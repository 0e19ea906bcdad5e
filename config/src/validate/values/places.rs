//! Where files are, and where weir listens.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Component, PathBuf};

use crate::validate::fault::Fault;

/// Bytes of a unix socket's path at most: `sun_path` less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The path of the control socket.
pub(crate) fn socket_path(text: &str) -> Result<PathBuf, Fault> {
    let fault = |label: String| Fault::new("invalid socket path", label);
    if !text.starts_with('/') {
        return Err(fault("the path must be absolute".into())
            .help("write a path from the root, such as \"/run/weir/weir.sock\""));
    }
    if text.ends_with('/') {
        return Err(fault("this is a directory".into())
            .help(format!("add a file name: \"{}weir.sock\"", text.escape_default())));
    }
    if text.len() > SOCKET_PATH_BYTES_MAX {
        return Err(fault(format!("{} bytes long; a unix socket has {SOCKET_PATH_BYTES_MAX}", text.len())));
    }
    if text.contains('\0') {
        return Err(fault("a path holds no zero byte".into()));
    }
    Ok(PathBuf::from(text))
}

/// Where files of /proc are kept for those who read them elsewhere.
pub(crate) fn proc_directory(text: &str) -> Result<PathBuf, Fault> {
    directory(text, "write a directory of its own, such as \"/run/weir/proc\"")
}

/// Where panics are kept; none if it is empty.
pub(crate) fn crash_directory(text: &str) -> Result<Option<PathBuf>, Fault> {
    let help = "write a directory of its own, such as \"/var/lib/weir\", or \"\" to keep nothing";
    (!text.is_empty()).then(|| directory(text, help)).transpose()
}

/// One that weir makes.
fn directory(text: &str, help: &str) -> Result<PathBuf, Fault> {
    let fault = |label: &str| Fault::new("invalid directory", label).help(help);
    let path = PathBuf::from(text);
    if !text.starts_with('/') {
        return Err(fault("the path must be absolute"));
    }
    if text.contains('\0') {
        return Err(fault("a path holds no zero byte"));
    }
    if path.components().count() < 2 || path.components().any(|part| part == Component::ParentDir) {
        return Err(fault("this is no directory of its own"));
    }
    if path.starts_with("/proc") || path.starts_with("/sys") {
        return Err(fault("the kernel lets nobody make files there"));
    }
    Ok(path)
}

/// A file to be read.
pub(crate) fn path(text: &str) -> Result<PathBuf, Fault> {
    let fault = |label: &str| Fault::new("invalid path", label);
    if !text.starts_with('/') {
        return Err(fault("the path must be absolute").help("write a path from the root"));
    }
    if text.ends_with('/') || text.contains('\0') {
        return Err(fault("this is no file"));
    }
    Ok(PathBuf::from(text))
}

/// Address and TCP port of the HTTP listener.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    const HELP: &str = "write address and port, such as \"127.0.0.1:9292\" or \"[::1]:9292\"";
    let invalid = |label: &str| Fault::new("invalid address to listen on", label);
    let fault = |label: &str| Err(invalid(label).help(HELP));
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => fault("port 0 would be another one at each start"),
        Ok(address) if address.ip().is_multicast() => fault("a multicast address"),
        Ok(address) => Ok(address),
        Err(_) => {
            let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
            Err(match (text.parse::<IpAddr>(), host, port_of(port)) {
                // A port behind an address without brackets is read as the address's end.
                (Ok(address @ IpAddr::V6(_)), host, Some(port)) if host.parse::<Ipv6Addr>().is_ok() => {
                    let whole = SocketAddr::from((address, 9292));
                    invalid("the port is missing, or the address is not in brackets").help(format!(
                        "write \"[{host}]:{port}\", or \"{whole}\" if all of it is the address"
                    ))
                }
                (Ok(address), ..) => invalid("the port is missing")
                    .help(format!("write \"{}\"", SocketAddr::from((address, 9292)))),
                (_, "", Some(port)) => {
                    invalid("the address is missing").help(format!("write \"127.0.0.1:{port}\""))
                }
                (_, "localhost", Some(port)) => {
                    invalid("host names are not looked up").help(format!("write \"127.0.0.1:{port}\""))
                }
                (_, "*", Some(port)) => {
                    invalid("every address is written as 0.0.0.0").help(format!("write \"0.0.0.0:{port}\""))
                }
                _ => invalid("not an address and a port").help(HELP),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn label<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        result.unwrap_err().label
    }

    #[test]
    fn paths_and_listeners() {
        assert!(socket_path("weir.sock").is_err());
        assert!(socket_path("/run/weir/").is_err());
        assert!(socket_path(&format!("/{}", "x".repeat(107))).is_err());
        assert!(socket_path(&format!("/{}", "x".repeat(106))).is_ok());
        for wrong in ["proc", "/", "/run/../proc", "/proc", "/proc/weir", "/sys/weir", "/a\0b"] {
            assert!(proc_directory(wrong).is_err(), "{wrong}");
        }
        assert_eq!(crash_directory(""), Ok(None));
        assert_eq!(crash_directory("/var/lib/w").unwrap(), Some(PathBuf::from("/var/lib/w")));
        assert!(crash_directory("/").is_err() && crash_directory("crashes").is_err());
        assert_eq!(proc_directory("/run/weir/proc/").unwrap(), PathBuf::from("/run/weir/proc"));
        assert_eq!(label(listen("127.0.0.1")), "the port is missing");
        assert_eq!(label(listen("2001:db8::1")), "the port is missing");
        let said = listen("::1:9292").unwrap_err();
        assert_eq!(said.label, "the port is missing, or the address is not in brackets");
        let help = "write \"[::1]:9292\", or \"[::1:9292]:9292\" if all of it is the address";
        assert_eq!(said.help.as_deref(), Some(help));
        assert_eq!(label(listen(":9292")), "the address is missing");
        assert_eq!(label(listen("localhost:9292")), "host names are not looked up");
        assert_eq!(label(listen("director:9292")), "not an address and a port");
        assert!(listen("[::]:9292").is_ok());
    }
}
