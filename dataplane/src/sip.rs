//! Which call a message of SIP is of: the value of its header `Call-ID`.
//!
//! By the rules of `ip_vs_pe_sip`, whose templates these are: lines end with CR, LF or both; a header's name is in any case, its short form is
//! `i`; a line that begins with a space or a tab belongs to the one before it. What differs is in docs/ipvs.md.

/// A longer Call-ID is of no use, as in the kernel (`IP_VS_PEDATA_MAXLEN`).
pub const CALL_ID_MAX: usize = 255;

/// The Call-ID of a message, which may be cut at its end. `None`: it has none that could be taken for one.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    loop {
        // The first line is no header.
        rest = next_line(rest)?;
        match rest.first()? {
            // The headers end, and what follows is nobody's business here.
            b'\r' | b'\n' => return None,
            b' ' | b'\t' => continue,
            _ => {}
        }
        let Some(value) = after_name(rest).map(skip_blanks).and_then(|rest| rest.strip_prefix(b":")) else {
            continue;
        };
        let value = skip_blanks(value);
        let Some(len) = call_id_len(value) else { continue };
        let (id, behind) = value.split_at(len);
        let ends = behind.iter().find(|octet| !is_blank(**octet)).is_some_and(|octet| is_end(*octet));
        return (ends && len <= CALL_ID_MAX).then_some(id);
    }
}

/// What follows the first end of a line.
fn next_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|octet| is_end(*octet))?;
    let (end, behind) = text[end..].split_first()?;
    match behind.first() {
        Some(b'\n') if *end == b'\r' => behind.get(1..),
        _ => Some(behind),
    }
}

/// What follows the name of the header, if it is that one.
fn after_name(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"Call-ID";
    if let Some((name, behind)) = line.split_at_checked(NAME.len())
        && name.eq_ignore_ascii_case(NAME)
    {
        return Some(behind);
    }
    line.strip_prefix(b"i").or_else(|| line.strip_prefix(b"I"))
}

/// Without spaces and tabs at its beginning, and an end of a line among them that goes on in the next one.
fn skip_blanks(text: &[u8]) -> &[u8] {
    let text = without_blanks(text);
    let next = text.first().filter(|octet| is_end(**octet)).and_then(|_| next_line(text));
    match next.filter(|next| next.first().is_some_and(|octet| is_blank(*octet))) {
        Some(next) => without_blanks(next),
        None => text,
    }
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|octet| is_blank(**octet)).count();
    &text[count..]
}

/// How long a Call-ID is that begins here: a word, or two around `@` (RFC 3261 section 25.1).
fn call_id_len(text: &[u8]) -> Option<usize> {
    let word =
        |text: &[u8]| text.iter().take(CALL_ID_MAX + 1).take_while(|octet| is_of_word(**octet)).count();
    let first = word(text);
    if first == 0 {
        return None;
    }
    match text.get(first) {
        Some(b'@') => match word(&text[first + 1..]) {
            0 => None,
            second => Some(first + 1 + second),
        },
        _ => Some(first),
    }
}

fn is_of_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&octet)
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn is_end(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Option<&str> {
        call_id(message.as_bytes()).map(|id| std::str::from_utf8(id).expect("text"))
    }

    #[test]
    fn the_header_is_found_in_all_its_forms() {
        for header in [
            "Call-ID: a84b4c76e66710@pc33.example.com\r\n",
            "call-id:a84b4c76e66710@pc33.example.com\r\n",
            "CALL-ID \t : \t a84b4c76e66710@pc33.example.com\n",
            "Call-Id: a84b4c76e66710@pc33.example.com \t\r\n",
            "i: a84b4c76e66710@pc33.example.com\r",
            "I:a84b4c76e66710@pc33.example.com\r\n",
            "Call-ID:\r\n  a84b4c76e66710@pc33.example.com\r\n",
            "Call-ID\r\n\t: a84b4c76e66710@pc33.example.com\r\n",
            "Call-ID: a84b4c76e66710@pc33.example.com\r\n goes on\r\n",
        ] {
            for end in ["\r\n", "\n", "\r"] {
                let message = format!(
                    "INVITE sip:bob@example.com SIP/2.0{end}Via: SIP/2.0/UDP 192.0.2.1{end} i: folded@x{end}{header}"
                );
                assert_eq!(of(&message), Some("a84b4c76e66710@pc33.example.com"), "{message:?}");
            }
        }
    }

    #[test]
    fn words_are_those_of_the_grammar() {
        let odd = "-.!%*_+`'~()<>:\\\"/[]?{}aZ09";
        assert_eq!(of(&format!("\r\ni: {odd}\r\n")), Some(odd));
        assert_eq!(of(&format!("\r\ni: {odd}@{odd}\r\n")), Some(&*format!("{odd}@{odd}")));
        for octet in (0..=255_u8).filter(|octet| !is_of_word(*octet) && !is_blank(*octet) && !is_end(*octet))
        {
            assert_eq!(
                call_id(&[b"\r\ni: a", &[octet][..], b"b\r\n"].concat()),
                if octet == b'@' { Some(&b"a@b"[..]) } else { None }
            );
        }
    }

    #[test]
    fn what_is_no_call_id_is_none() {
        for message in [
            "",
            "\r\n",
            "Call-ID: a@b\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: a@b",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: a@\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: \r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID:",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID a@b\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: a\0b\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: a@b@c\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCall-ID: a b\r\n",
            "OPTIONS sip:x SIP/2.0\r\nid: a@b\r\n",
            "OPTIONS sip:x SIP/2.0\r\n Call-ID: a@b\r\n",
            "OPTIONS sip:x SIP/2.0\r\n\r\nCall-ID: a@b\r\n",
            "OPTIONS sip:x SIP/2.0\n\nCall-ID: a@b\n",
        ] {
            assert_eq!(of(message), None, "{message:?}");
        }
    }

    #[test]
    fn the_first_of_several_counts_and_an_empty_one_does_not() {
        assert_eq!(of("\r\nCall-ID: a@b\r\ni: c@d\r\n"), Some("a@b"));
        assert_eq!(of("\r\nCall-ID-2: x@y\r\nCall-ID: @\r\ni: c@d\r\n"), Some("c@d"));
        assert_eq!(of("\r\nCall-ID: a b\r\ni: c@d\r\n"), None);
    }

    #[test]
    fn the_longest_that_the_kernel_takes_is_taken() {
        let id = |first: usize, second: usize| format!("{}@{}", "a".repeat(first), "b".repeat(second));
        for (id, is_one) in [
            (id(127, 127), true),
            (id(127, 128), false),
            (id(254, 1), false),
            (id(253, 1), true),
            ("a".repeat(255), true),
            ("a".repeat(256), false),
            ("a".repeat(60_000), false),
            (id(10, 60_000), false),
        ] {
            assert_eq!(of(&format!("\r\ni: {id}\r\n")), is_one.then_some(&*id), "{}", id.len());
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let known: &[&[u8]] = &[b"\r\nCall-ID:", b"\r\ni ", b"\n", b"@", b"\r\n\t", b":", b"a"];
            let mixed: Vec<u8> = bytes
                .iter()
                .flat_map(|octet| {
                    known
                        .get(usize::from(octet % 16))
                        .copied()
                        .unwrap_or(std::slice::from_ref(octet))
                        .to_vec()
                })
                .collect();
            for message in [bytes, &mixed] {
                if let Some(id) = call_id(message) {
                    assert!(!id.is_empty() && id.len() <= CALL_ID_MAX);
                    assert!(id.iter().all(|octet| is_of_word(*octet) || *octet == b'@'));
                }
            }
        });
    }
}
