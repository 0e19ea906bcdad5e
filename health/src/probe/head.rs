//! The head of an HTTP answer, kept while it is read, so that a refusal can name the field that is wrong: the parser's words do
//! not.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::matching::shown;

/// What has been heard of a head, shared by who reads it and who asks about it.
#[derive(Clone, Default)]
pub(super) struct Head(Arc<Mutex<Kept>>);

/// Interim answers, such as "100 Continue", that may come before the one that counts.
const INTERIM_MAX: usize = 100;

/// A server that sends interim answers without end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endless {
    Answers,
    /// As many as all heads of an answer may have together.
    Bytes(usize),
}

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers => {
                write!(f, "more than {INTERIM_MAX} interim answers (status 1xx) and none that counts")
            }
            Self::Bytes(max) => {
                write!(
                    f,
                    "interim answers (status 1xx) and the head of the answer are larger than {} KiB",
                    max >> 10
                )
            }
        }
    }
}

impl std::error::Error for Endless {}

#[derive(Default)]
struct Kept {
    /// All that was heard, interim answers included.
    bytes: Vec<u8>,
    /// Where the last head begins.
    begin: usize,
    interim: usize,
    is_whole: bool,
}

impl Head {
    /// More of the answer, of whose heads at most `bytes_max` bytes are taken. What comes behind the head is left alone. Each byte
    /// is looked at once or twice, however many heads there are.
    pub(super) fn hear(&self, bytes: &[u8], bytes_max: usize) -> Result<(), Endless> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        if kept.is_whole {
            return Ok(());
        }
        let room = bytes_max - kept.bytes.len();
        // The blank line may have begun in the piece before.
        let mut from = kept.bytes.len().saturating_sub(3);
        kept.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        loop {
            // The parser skips empty lines before a head.
            kept.begin += empty_lines(&kept.bytes[kept.begin..]);
            from = from.max(kept.begin);
            let Some(end) = end_of_head(&kept.bytes, from) else { break };
            let head = &kept.bytes[kept.begin..end];
            // RFC 9110 section 15.2: such an answer, "100 Continue", comes before the one that counts.
            if !status_of(head).is_some_and(is_interim) || odd_field(head).is_some() {
                kept.is_whole = true;
                return Ok(());
            }
            kept.begin = end;
            kept.interim += 1;
            if kept.interim > INTERIM_MAX {
                return Err(Endless::Answers);
            }
        }
        if kept.bytes.len() < bytes_max {
            return Ok(());
        }
        match kept.interim {
            // The parser has the same limit for a head alone.
            0 => kept.is_whole = true,
            _ => return Err(Endless::Bytes(bytes_max)),
        }
        Ok(())
    }

    /// The first field that is none, in words.
    pub(super) fn odd_field(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        odd_field(&kept.bytes[kept.begin..])
    }
}

/// How many bytes of empty lines `bytes` begin with.
fn empty_lines(bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(blank) = empty_line(&bytes[count..]) {
        count += blank;
    }
    count
}

/// How long the empty line is that `bytes` begin with.
fn empty_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// Where the head ends, its blank line included, that has no end before `from`. Nothing behind the end is looked at.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1).find_map(|next| {
        let blank = empty_line(&bytes[next..])?;
        Some(next + blank)
    })
}

/// Version and status of an answer: whether it is HTTP/1.0, and three digits. What else may be wrong with the first line, the parser
/// says in clear words.
fn status_of(head: &[u8]) -> Option<(bool, [u8; 3])> {
    let (is_old, rest) = match head.strip_prefix(b"HTTP/1.") {
        Some([b'0', b' ', rest @ ..]) => (true, rest),
        Some([b'1', b' ', rest @ ..]) => (false, rest),
        _ => return None,
    };
    let digits = *rest.first_chunk::<3>()?;
    let ends = rest.get(3).is_none_or(|next| b" \r\n".contains(next));
    (ends && digits.iter().all(u8::is_ascii_digit)).then_some((is_old, digits))
}

fn is_interim((_, status): (bool, [u8; 3])) -> bool {
    status[0] == b'1' && status != *b"101"
}

fn odd_field(head: &[u8]) -> Option<String> {
    let (is_old, status) = status_of(head)?;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.next()?;
    let mut lengths: Vec<Vec<u8>> = Vec::new();
    let mut has_encoding = false;
    // The name goes on for lines that are folded.
    let mut name: &[u8] = b"";
    for line in lines.take_while(|line| !line.is_empty()) {
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let value = if is_folded {
            line
        } else {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                return Some(without_colon(name));
            };
            name = &line[..colon];
            &line[colon + 1..]
        };
        let known = match field(name, value.trim_ascii()) {
            Ok(known) => known,
            Err(why) => return Some(why),
        };
        has_encoding |= known == TRANSFER_ENCODING;
        if known == CONTENT_LENGTH {
            match lengths.last_mut().filter(|_| is_folded) {
                Some(begun) => begun.extend_from_slice(value),
                None => lengths.push(value.to_vec()),
            }
        }
    }
    match status {
        // They have no body, whatever a field says.
        [b'1', ..] | [b'2', b'0', b'4'] | [b'3', b'0', b'4'] => None,
        // RFC 9112 section 6.1.
        _ if has_encoding && is_old => {
            Some("the header field \"Transfer-Encoding\" in an answer of HTTP/1.0".to_owned())
        }
        _ if has_encoding => None,
        _ => odd_length(&lengths),
    }
}

/// The line itself may be a part of a cookie, and what is said goes to logs and pages.
fn without_colon(before: &[u8]) -> String {
    match before {
        b"" => "the first header line has no colon".to_owned(),
        name => format!("the line behind the header field {} has no colon", shown(name)),
    }
}

fn field(name: &[u8], value: &[u8]) -> Result<HeaderName, String> {
    let known = HeaderName::from_bytes(name);
    let known = known.map_err(|_| format!("{} is no name of a header field", shown(name)))?;
    // The value may be nobody's business, such as a cookie.
    let value = HeaderValue::from_bytes(value).map(|_| known);
    value.map_err(|_| format!("the header field {} holds a control character", shown(name)))
}

/// RFC 9110 section 8.6: several lengths are as good as one if they are the same.
fn odd_length(lengths: &[Vec<u8>]) -> Option<String> {
    let all = || lengths.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let number = |text: &[u8]| {
        let digits =
            std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u64>().ok())
    };
    if let Some(odd) = all().find(|text| number(text).is_none()) {
        return Some(format!("the header field \"Content-Length\" is {}, not a number", shown(odd)));
    }
    let first = all().next()?;
    let other = all().find(|text| number(text) != number(first))?;
    Some(format!("two header fields \"Content-Length\" that differ, {} and {}", shown(first), shown(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd_field_of(pieces: &[&str]) -> Option<String> {
        let head = Head::default();
        pieces.iter().for_each(|piece| head.hear(piece.as_bytes(), 1000).unwrap());
        head.odd_field()
    }

    #[test]
    fn what_comes_before_the_answer_is_looked_through() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let odd = "HTTP/1.1 200 OK\r\nX Odd: 1\r\n\r\n";
        let wanted = Some("\"X Odd\" is no name of a header field".to_owned());
        assert_eq!(odd_field_of(&[interim, odd]), wanted);
        assert_eq!(odd_field_of(&[&format!("{interim}HTTP/1.1 103 Early\nA: b\n\n{odd}")]), wanted);
        // Byte by byte.
        let all = format!("{interim}{odd}");
        let pieces: Vec<&str> = (0..all.len()).map(|at| &all[at..=at]).collect();
        assert_eq!(odd_field_of(&pieces), wanted);
        // What is odd in it counts.
        assert_eq!(odd_field_of(&["HTTP/1.1 100 Continue\r\nX Odd: 1\r\n\r\n"]), wanted);
        // This one is the answer.
        let switching = "HTTP/1.1 101 Switching\r\n\r\n";
        assert_eq!(odd_field_of(&[switching, odd]), None);
    }

    #[test]
    fn only_a_head_is_looked_at_however_it_comes() {
        let good = ["HTTP/1.1 200 OK\r\nA: b\r\n folded\r", "\n\r", "\nno field\r\n"];
        assert_eq!(odd_field_of(&good), None);
        assert_eq!(odd_field_of(&["HTTP/1.1 200 OK\nA: b\n\nno field\n"]), None);
        assert_eq!(odd_field_of(&["no HTTP\r\nno field\r\n"]), None);
        let folded = odd_field_of(&["HTTP/1.1 200 OK\r\nA: b\r\n", " fol\u{1}ded\r\n\r\n"]);
        assert_eq!(folded.unwrap(), "the header field \"A\" holds a control character");
    }

    #[test]
    fn interim_answers_have_an_end_however_they_come() {
        let interim = b"\r\nHTTP/1.1 100 Continue\r\n\r\n";
        let good = Head::default();
        assert_eq!(good.hear(&interim.repeat(INTERIM_MAX), 1 << 16), Ok(()));
        assert_eq!(good.hear(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", 1 << 16), Ok(()));
        assert_eq!(good.hear(&interim.repeat(INTERIM_MAX), 1 << 16), Ok(()), "a body");
        assert_eq!(Head::default().hear(&interim.repeat(INTERIM_MAX + 1), 1 << 16), Err(Endless::Answers));
        let drip = Head::default();
        let mut bytes = interim.iter().cycle().enumerate();
        let at = bytes.find_map(|(at, byte)| drip.hear(&[*byte], 1 << 16).err().map(|why| (at + 1, why)));
        assert_eq!(at, Some(((INTERIM_MAX + 1) * interim.len(), Endless::Answers)));
        // Few and large.
        let large = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(30_000)).into_bytes();
        let head = Head::default();
        assert_eq!(head.hear(&large.repeat(2), 1 << 16), Ok(()));
        assert_eq!(head.hear(&large, 1 << 16), Err(Endless::Bytes(1 << 16)));
    }
}
