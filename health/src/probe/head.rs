//! The head of an HTTP answer, kept while it is read, so that a refusal can name the field that is wrong: the parser's words do
//! not.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::matching::shown;

/// What has been heard of a head, shared by who reads it and who asks about it.
#[derive(Clone, Default)]
pub(super) struct Head(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Head {
    /// More of the answer. What comes behind the head is left alone.
    pub(super) fn hear(&self, bytes: &[u8], bytes_max: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_whole {
            return;
        }
        let room = bytes_max - kept.bytes.len();
        // The blank line may have begun in the piece before.
        let from = kept.bytes.len().saturating_sub(3);
        kept.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let ends = |end: &[u8]| memchr::memmem::find(&kept.bytes[from..], end).is_some();
        kept.is_whole = kept.bytes.len() == bytes_max || ends(b"\r\n\r\n") || ends(b"\n\n");
    }

    /// The first field that is none, in words.
    pub(super) fn odd_field(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = kept.bytes.split(|byte| *byte == b'\n');
        lines.next().filter(|status| status.starts_with(b"HTTP/"))?;
        let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        // The name goes on for lines that are folded.
        let mut name: &[u8] = b"";
        for line in lines.take_while(|line| !line.is_empty()) {
            let value = if line.starts_with(b" ") || line.starts_with(b"\t") {
                line
            } else {
                let colon = line.iter().position(|byte| *byte == b':');
                let Some(colon) = colon else {
                    return Some(format!("a header line without a colon, {}", shown(line)));
                };
                name = &line[..colon];
                &line[colon + 1..]
            };
            if let Some(why) = odd(name, value.trim_ascii()) {
                return Some(why);
            }
        }
        None
    }
}

fn odd(name: &[u8], value: &[u8]) -> Option<String> {
    let Ok(known) = HeaderName::from_bytes(name) else {
        return Some(format!("{} is no name of a header field", shown(name)));
    };
    // The value may be nobody's business, such as a cookie.
    if HeaderValue::from_bytes(value).is_err() {
        return Some(format!("the header field {} holds a control character", shown(name)));
    }
    if known == CONTENT_LENGTH && !value.iter().all(u8::is_ascii_digit) {
        return Some(format!("the header field {} is {}, not a number", shown(name), shown(value)));
    }
    if known == TRANSFER_ENCODING && !value.to_ascii_lowercase().ends_with(b"chunked") {
        return Some(format!("the header field {} is {}, not chunked", shown(name), shown(value)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd_field_of(pieces: &[&str]) -> Option<String> {
        let head = Head::default();
        pieces.iter().for_each(|piece| head.hear(piece.as_bytes(), 1000));
        head.odd_field()
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
}
