//! Strings of health checks.

use std::path::PathBuf;

use regex::bytes::RegexBuilder;

use crate::model::health::BodyDigest;
use crate::report::quoted;
use crate::validate::fault::Fault;

/// Bytes of a text that is sent or expected at most: such checks are short, and answers are held in memory.
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// Bytes that a compiled pattern may take: each check holds its own.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The name or number of a user or group that programs run as.
pub(in crate::validate) fn account(text: &str) -> Result<String, Fault> {
    let root = || Fault::new("scripts don't run as root", "give them a user of their own");
    someone(text, || root().help("write such as \"nobody\""))
}

/// The same of weir itself.
pub(in crate::validate) fn own_account(text: &str) -> Result<String, Fault> {
    let root = || Fault::new("this is root", "weir runs as who starts it without this key");
    someone(text, || root().help("leave the key out, or write a user of weir's own"))
}

/// The name or number of a user or group, that is not root.
fn someone(text: &str, root: impl Fn() -> Fault) -> Result<String, Fault> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 32 || text.starts_with('-') || !text.chars().all(is_good) {
        return Err(Fault::new("not a user or group", "1 to 32 letters, digits and any of - _ ."));
    }
    // "00" is root, too, and what begins with a digit and is no number is nobody's name.
    let number = text.parse::<u32>();
    if text.starts_with(|c: char| c.is_ascii_digit()) && !number.as_ref().is_ok_and(|it| *it != u32::MAX) {
        return Err(Fault::new("not a user or group", "a number is 1 to 4294967294, in decimal digits"));
    }
    if text == "root" || number == Ok(0) {
        return Err(root());
    }
    Ok(text.to_owned())
}

/// Text that goes over the wire as it is.
pub(super) fn sent(text: &str) -> Result<Vec<u8>, Fault> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(Fault::new("not a text to send or expect", format!("1 to {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text.as_bytes().to_vec())
}

/// Bytes in hexadecimal, blanks between them allowed.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, Fault> {
    let bytes = wild_hex(text)?;
    bytes.into_iter().collect::<Option<_>>().ok_or_else(|| {
        Fault::new("invalid hexadecimal bytes", "`XX` stands for any byte only in what is expected")
    })
}

/// As [`hex`], with `XX` for any byte.
pub(super) fn wild_hex(text: &str) -> Result<Vec<Option<u8>>, Fault> {
    let fault = |label: &str| {
        Err(Fault::new("invalid hexadecimal bytes", label).help("write such as \"1b 00 00 00\""))
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return fault("two digits are needed for each byte");
    }
    if digits.len() / 2 > TEXT_BYTES_MAX {
        return fault("too long");
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        if pair.eq_ignore_ascii_case(b"xx") {
            bytes.push(None);
            continue;
        }
        let byte = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
        match byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => bytes.push(Some(byte)),
            None => return fault("each byte is two hexadecimal digits"),
        }
    }
    Ok(bytes)
}

/// A SHA-256 digest in hexadecimal.
pub(super) fn sha256(text: &str) -> Result<BodyDigest, Fault> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let bytes = hex(digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(BodyDigest::Sha256).ok_or_else(|| {
        Fault::new("invalid SHA-256 digest", "64 hexadecimal digits are needed").help("sha256sum prints it")
    })
}

/// An MD5 digest of a body, as keepalived's `digest`.
pub(super) fn md5(text: &str) -> Result<BodyDigest, Fault> {
    let bytes = hex(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(BodyDigest::Md5).ok_or_else(|| {
        Fault::new("invalid MD5 digest", "32 hexadecimal digits are needed").help("md5sum prints it")
    })
}

/// A path on a web server, with its query.
pub(super) fn url_path(text: &str) -> Result<String, Fault> {
    let fault = |label: &str| Err(Fault::new("invalid path", label).help("write such as \"/health?full=1\""));
    if text.len() > 2048 {
        return fault("longer than 2048 bytes");
    }
    if !text.starts_with('/') {
        return fault("it must begin with a slash");
    }
    // RFC 3986: what is not in this set is written as %XX.
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._~:/?[]@!$&'()*+,;=%".contains(c);
    match text.chars().find(|c| !is_good(*c)) {
        Some(odd) => fault(&format!("{} must be written as %XX", quoted(&odd.to_string()))),
        None => Ok(text.to_owned()),
    }
}

/// A host name or address, with a port for the `Host` header.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if text.is_empty() || text.len() > 255 || !text.chars().all(is_good) {
        return Err(Fault::new("invalid host name", "1 to 255 letters, digits and any of - . _ : [ ]"));
    }
    Ok(text.to_owned())
}

/// A DNS name, without the dot at its end. The root is empty.
pub(super) fn dns_name(text: &str) -> Result<String, Fault> {
    let fault = |label: &str| Err(Fault::new("invalid DNS name", label));
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return if text == "." { Ok(String::new()) } else { fault("write \".\" for the root") };
    }
    if name.len() > 253 {
        return fault("longer than 253 bytes");
    }
    for label in name.split('.') {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if label.is_empty() || label.len() > 63 || !label.chars().all(is_good) {
            return fault("between dots stand 1 to 63 letters, digits, - or _");
        }
    }
    Ok(name.to_owned())
}

/// A status code or a range of them.
pub(super) fn status(text: &str) -> Result<(u16, u16), Fault> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(from), code(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err(Fault::new("invalid status", "a code from 100 to 599, or a range")
            .help("write such as \"200-299\"")),
    }
}

/// A regular expression.
pub(super) fn regex(text: &str) -> Result<String, Fault> {
    match RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build() {
        Ok(_) if text.len() <= TEXT_BYTES_MAX => Ok(text.to_owned()),
        Ok(_) => Err(Fault::new("invalid regular expression", format!("longer than {TEXT_BYTES_MAX} bytes"))),
        Err(problem) => {
            let last = problem.to_string();
            let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(Fault::new("invalid regular expression", last))
        }
    }
}

/// `Name: value` of a header field; the name in lower case.
pub(super) fn header(text: &str) -> Result<(String, String), Fault> {
    let fault = |label: &str| {
        Err(Fault::new("invalid header", label).help("write name and value, such as \"Server: nginx\""))
    };
    let Some((name, value)) = text.split_once(':') else { return fault("the colon is missing") };
    // RFC 9110 section 5.6.2: a token.
    let is_good = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_good) {
        return fault("this is no name of a header");
    }
    if text.len() > TEXT_BYTES_MAX {
        return fault("too long");
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// The value of a header as a regular expression.
pub(super) fn header_regex(text: &str) -> Result<(String, String), Fault> {
    let (name, pattern) = header(text)?;
    Ok((name, regex(&pattern)?))
}

/// `Name: value` of a header field of a request. Those that make the request what it is are not for the file.
pub(super) fn request_header(text: &str) -> Result<(String, String), Fault> {
    let (name, value) = header(text)?;
    let instead = match name.as_str() {
        "host" => Some("write `host` instead"),
        "connection" | "content-length" | "transfer-encoding" | "upgrade" | "expect" | "te" | "trailer" => {
            Some("remove it")
        }
        _ => None,
    };
    if let Some(instead) = instead {
        return Err(Fault::new("not a header for a check", "weir writes it itself").help(instead));
    }
    // RFC 9110 section 5.5.
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Fault::new("invalid header", "control characters can't be in a value"));
    }
    Ok((name, value))
}

/// `user:password` of basic authentication (RFC 7617).
pub(super) fn credentials(text: &str) -> Result<String, Fault> {
    if !text.contains(':') || text.len() > 512 || text.chars().any(char::is_control) {
        return Err(Fault::new(
            "not user and password",
            "a colon is needed between them, and at most 512 bytes",
        )
        .help("write such as \"weir:secret\""));
    }
    Ok(text.to_owned())
}

/// SHA-256 of a certificate, as openssl prints it.
pub(super) fn fingerprint(text: &str) -> Result<[u8; 32], Fault> {
    let digits = text.rsplit_once('=').map_or(text, |(_, digits)| digits);
    let digits = digits.strip_prefix("sha256:").unwrap_or(digits).replace(':', "");
    let bytes = hex(&digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        Fault::new("invalid fingerprint", "32 bytes in hexadecimal are needed, with colons or without")
            .help("`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it")
    })
}

/// One word of a command.
pub(super) fn argument(text: &str) -> Result<String, Fault> {
    if text.contains('\0') || text.len() > TEXT_BYTES_MAX {
        let label = format!("no zero byte, and at most {TEXT_BYTES_MAX} bytes");
        return Err(Fault::new("not an argument", label));
    }
    Ok(text.to_owned())
}

/// A file of the director.
pub(in crate::validate) fn file(text: &str) -> Result<PathBuf, Fault> {
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') || text.len() > TEXT_BYTES_MAX {
        return Err(Fault::new("invalid path of a file", "an absolute path is needed"));
    }
    Ok(PathBuf::from(text))
}
