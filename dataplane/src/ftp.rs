//! What the control connection of FTP says about data connections (RFC 959, RFC 2428), read from the bytes of one segment.
//!
//! Only whole lines are read: a line that begins in one segment and ends in the next is passed on as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use arrayvec::ArrayString;

/// Longest line that is read, in bytes.
pub const LINE_MAX: usize = 512;
/// Longest text of an address and a port: six numbers of three digits, and commas.
pub const TEXT_MAX: usize = 23;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `PASV` or `EPSV`: where it may connect to.
    Passive,
    /// `PORT` or `EPRT`: to be connected to here.
    Active(IpAddr, u16),
    /// One of those that can't be read.
    Malformed,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 227: at this address and port, which stand at this place of the line.
    Passive(Ipv4Addr, u16, Range<usize>),
    /// 229: at this port of the address that the client talks to.
    Extended(u16),
    /// One of those that can't be read.
    Malformed,
}

/// The lines of a segment: where each begins, and its bytes up to the line feed. `None` in place of the last one's end if it does not
/// end here.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8], bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let begin = at;
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        at += line.len() + 1;
        Some((begin, line, end.is_some()))
    })
}

/// What a client's line, without its line feed, asks for. `None`: nothing about data connections.
pub fn command(line: &[u8]) -> Option<Command> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (verb, rest) = line.split_at_checked(4)?;
    let is = |wanted: &[u8]| verb.eq_ignore_ascii_case(wanted);
    let argument = rest.trim_ascii();
    if is(b"PASV") && argument.is_empty() {
        return Some(Command::Passive);
    }
    if is(b"EPSV") && matches!(argument, b"" | b"1" | b"2") {
        return Some(Command::Passive);
    }
    let active = if is(b"PORT") && rest.starts_with(b" ") {
        port_argument(argument)
    } else if is(b"EPRT") && rest.starts_with(b" ") {
        eprt_argument(argument)
    } else {
        return None;
    };
    Some(active.map_or(Command::Malformed, |(address, port)| Command::Active(address, port)))
}

/// What a server's line, without its line feed, says. `None`: nothing about data connections.
pub fn reply(line: &[u8]) -> Option<Reply> {
    if let Some(rest) = line.strip_prefix(b"227 ") {
        // RFC 1123 section 4.1.2.6: the numbers are where the first digit is, whatever stands around them.
        let from = rest.iter().position(u8::is_ascii_digit);
        let read = from.and_then(|from| {
            let ([a, b, c, d, high, low], len) = six_numbers(&rest[from..])?;
            let place = 4 + from..4 + from + len;
            Some(Reply::Passive(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]), place))
        });
        return Some(read.unwrap_or(Reply::Malformed));
    }
    let rest = line.strip_prefix(b"229 ")?;
    let read = rest.iter().position(|&byte| byte == b'(').and_then(|from| {
        let inside = &rest[from + 1..];
        let (&delimiter, _) = inside.split_first().filter(|(first, _)| first.is_ascii_graphic())?;
        let mut fields = inside.split(|&byte| byte == delimiter);
        let [before, protocol, address] = [fields.next()?, fields.next()?, fields.next()?];
        let port = number(fields.next()?)?;
        let is_right = before.is_empty()
            && protocol.is_empty()
            && address.is_empty()
            && fields.next()?.starts_with(b")");
        is_right.then_some(Reply::Extended(port))
    });
    Some(read.unwrap_or(Reply::Malformed))
}

/// An address and a port as 227 has them.
pub fn text(address: Ipv4Addr, port: u16) -> ArrayString<TEXT_MAX> {
    use std::fmt::Write;
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    let mut text = ArrayString::new();
    // There is room for the longest.
    let _ = write!(text, "{a},{b},{c},{d},{high},{low}");
    text
}

/// `h1,h2,h3,h4,p1,p2` and nothing else.
fn port_argument(argument: &[u8]) -> Option<(IpAddr, u16)> {
    let ([a, b, c, d, high, low], len) = six_numbers(argument)?;
    let address = Ipv4Addr::new(a, b, c, d).into();
    (len == argument.len()).then_some((address, u16::from_be_bytes([high, low])))
}

/// `|1|address|port|` or `|2|address|port|`, with any delimiter.
fn eprt_argument(argument: &[u8]) -> Option<(IpAddr, u16)> {
    let (&delimiter, rest) = argument.split_first().filter(|(first, _)| first.is_ascii_graphic())?;
    let mut fields = rest.split(|&byte| byte == delimiter);
    let [protocol, address, port, end] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let address = str::from_utf8(address).ok()?;
    let address = match protocol {
        b"1" => address.parse::<Ipv4Addr>().ok()?.into(),
        b"2" => address.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    let is_whole = end.is_empty() && fields.next().is_none();
    Some((address, number(port)?)).filter(|_| is_whole)
}

/// Six numbers of a byte each with commas between them, and how long that is.
fn six_numbers(bytes: &[u8]) -> Option<([u8; 6], usize)> {
    let mut numbers = [0; 6];
    let mut at = 0;
    for (index, value) in numbers.iter_mut().enumerate() {
        if index > 0 {
            if bytes.get(at) != Some(&b',') {
                return None;
            }
            at += 1;
        }
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        *value = u8::try_from(number(&bytes[at..at + digits])?).ok()?;
        at += digits;
    }
    Some((numbers, at))
}

/// A number of one to five digits.
fn number(digits: &[u8]) -> Option<u16> {
    if !matches!(digits.len(), 1..=5) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit & 15));
    u16::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        Ipv4Addr::new(a, b, c, d).into()
    }

    #[test]
    fn commands_are_read_in_any_case_and_nothing_else_is_one() {
        let cases: [(&[u8], Option<Command>); 19] = [
            (b"PASV\r", Some(Command::Passive)),
            (b"pasv", Some(Command::Passive)),
            (b"EPSV\r", Some(Command::Passive)),
            (b"epsv 2\r", Some(Command::Passive)),
            (b"EPSV ALL\r", None),
            (b"PASVX\r", None),
            (b"PAS", None),
            (b"", None),
            (b"PORT 10,0,0,200,4,1\r", Some(Command::Active(v4(10, 0, 0, 200), 1025))),
            (b"port 10,0,0,200,255,255", Some(Command::Active(v4(10, 0, 0, 200), 65535))),
            (b"PORT10,0,0,200,4,1\r", None),
            (b"PORT 10,0,0,200,4\r", Some(Command::Malformed)),
            (b"PORT 10,0,0,256,4,1\r", Some(Command::Malformed)),
            (b"PORT 10,0,0,200,4,1,7\r", Some(Command::Malformed)),
            (b"PORT 10,0,0,200,4,000000001\r", Some(Command::Malformed)),
            (b"EPRT |1|10.0.0.200|1025|\r", Some(Command::Active(v4(10, 0, 0, 200), 1025))),
            (
                b"EPRT !2!2001:db8::1!5000!\r",
                Some(Command::Active("2001:db8::1".parse().expect("one"), 5000)),
            ),
            (b"EPRT |2|10.0.0.200|1025|\r", Some(Command::Malformed)),
            (b"EPRT |1|10.0.0.200|65536|\r", Some(Command::Malformed)),
        ];
        for (line, expected) in cases {
            assert_eq!(command(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn replies_are_read_wherever_the_numbers_stand() {
        let at = Ipv4Addr::new(10, 0, 0, 11);
        let cases: [(&[u8], Option<Reply>); 9] = [
            (b"227 Entering Passive Mode (10,0,0,11,195,80).\r", Some(Reply::Passive(at, 50000, 27..43))),
            (b"227 =10,0,0,11,195,80\r", Some(Reply::Passive(at, 50000, 5..21))),
            (b"227-Entering (10,0,0,11,195,80)\r", None),
            (b"227 Entering Passive Mode\r", Some(Reply::Malformed)),
            (b"229 Entering Extended Passive Mode (|||50000|)\r", Some(Reply::Extended(50000))),
            (b"229 ok (!!!7!)", Some(Reply::Extended(7))),
            (b"229 ok (|1|10.0.0.11|7|)", Some(Reply::Malformed)),
            (b"229 ok (|||7", Some(Reply::Malformed)),
            (b"220 hello\r", None),
        ];
        for (line, expected) in cases {
            assert_eq!(reply(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        bolero::check!().with_type::<(u32, u16)>().for_each(|&(address, port)| {
            let address = Ipv4Addr::from_bits(address);
            let line = format!("227 Entering Passive Mode ({}).", text(address, port));
            let place = 27..27 + text(address, port).len();
            assert_eq!(reply(line.as_bytes()), Some(Reply::Passive(address, port, place)));
            let line = format!("PORT {}", text(address, port));
            assert_eq!(command(line.as_bytes()), Some(Command::Active(address.into(), port)));
        });
    }

    #[test]
    fn any_bytes_are_lines_and_none_panics() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut whole = Vec::new();
            for (begin, line, is_whole) in lines(bytes) {
                assert_eq!(begin, whole.len());
                whole.extend_from_slice(line);
                whole.extend(is_whole.then_some(b'\n'));
                for verb in ["PORT ", "EPRT ", "EPSV ", ""] {
                    let _ = command(&[verb.as_bytes(), line].concat());
                }
                for code in ["227 ", "229 ("] {
                    if let Some(Reply::Passive(.., place)) = reply(&[code.as_bytes(), line].concat()) {
                        assert!(place.end <= code.len() + line.len());
                    }
                }
            }
            assert_eq!(whole, bytes);
        });
    }
}
