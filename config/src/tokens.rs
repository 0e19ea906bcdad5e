//! The file of bearer tokens, `[http] token_file`: who may ask weir from other machines, and for what.
//!
//! ```text
//! # Prometheus and the dashboard
//! read  9f3c1d52f0a84be4b1c7
//! # the deployment
//! write 5b0e7a66c2d94c1fa3d8
//! ```

use std::fmt;

/// Octets of a token at least: 16 random ones can't be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// And at most; a request's header has to hold it.
const TOKEN_BYTES_MAX: usize = 512;
/// Tokens at most. Each request compares with all of them.
const TOKENS_MAX: usize = 256;
/// Octets of the file at most.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To look.
    Read,
    /// To look, and to change what weir does.
    Write,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is good for.
    pub role: Role,
    /// What a client sends (RFC 6750, 2.1).
    pub text: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The tokens in the text of a file, at least one.
///
/// # Errors
/// What is wrong with it, and in which line. No token is repeated.
pub fn parse(text: &[u8]) -> Result<Vec<Token>, String> {
    let text = str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    // Some editors begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tokens: Vec<Token> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let at = |problem: String| format!("line {number}: {problem}");
        let Some(token) = token(line).map_err(at)? else { continue };
        if tokens.iter().any(|known| known.text == token.text) {
            return Err(at("this token is there already".to_owned()));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(at(format!("there are more than {TOKENS_MAX} tokens")));
        }
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err("there is no token in it".to_owned());
    }
    Ok(tokens)
}

/// The token in a line; `None`: it is empty, or a comment.
fn token(line: &str) -> Result<Option<Token>, String> {
    let mut words = line.split_ascii_whitespace();
    let role = match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some("read") => Role::Read,
        Some("write") => Role::Write,
        // It may be a token without its role.
        Some(_) => {
            return Err("it does not begin with a role: write `read TOKEN` or `write TOKEN`".to_owned());
        }
    };
    let Some(text) = words.next() else { return Err("there is no token behind the role".to_owned()) };
    match words.next() {
        Some(word) if !word.starts_with('#') => {
            return Err("there is more than a role and a token: a token has no blanks".to_owned());
        }
        _ => {}
    }
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) {
        return Err(format!(
            "the token has {} octets; it needs {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX}",
            text.len()
        ));
    }
    if !is_bearer(text) {
        return Err(
            "the token holds what no token may: letters, digits and -._~+/ are good, and = at its end"
                .to_owned(),
        );
    }
    Ok(Some(Token { role, text: text.to_owned() }))
}

/// `b64token` of RFC 6750.
fn is_bearer(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef";

    #[test]
    fn a_line_is_a_role_and_a_token() {
        let text = format!("\u{feff}# who\n\nread {LONG}\r\n  write\t{LONG}-._~+/==  # the deployment\n");
        let tokens = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = tokens.iter().map(|it| (it.role, it.text.as_str())).collect();
        assert_eq!(found, [(Role::Read, LONG), (Role::Write, "0123456789abcdef-._~+/==")]);
        assert!(Role::Read < Role::Write);
        assert!(!format!("{tokens:?}").contains(LONG));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_token() {
        let many: String = (0..257).map(|number| format!("read {LONG}{number}\n")).collect();
        let long = "x".repeat(513);
        for (text, said) in [
            (String::new(), "there is no token in it"),
            ("# read x\n".to_owned(), "there is no token in it"),
            (
                format!("{LONG}\n"),
                "line 1: it does not begin with a role: write `read TOKEN` or `write TOKEN`",
            ),
            (format!("#\nadmin {LONG}\n"), "line 2: it does not begin with a role"),
            ("read\n".to_owned(), "line 1: there is no token behind the role"),
            (format!("read {LONG} {LONG}\n"), "line 1: there is more than a role and a token"),
            (format!("read {}\n", &LONG[1..]), "line 1: the token has 15 octets; it needs 16 to 512"),
            (format!("write {long}\n"), "line 1: the token has 513 octets"),
            (format!("read {LONG}\u{e4}\n"), "line 1: the token holds what no token may"),
            (format!("read {LONG}=a\n"), "line 1: the token holds what no token may"),
            ("read ================\n".to_owned(), "line 1: the token holds what no token may"),
            (format!("read {LONG}\nwrite {LONG}\n"), "line 2: this token is there already"),
            (many, "line 257: there are more than 256 tokens"),
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.starts_with(said), "{problem}");
            assert!(!problem.contains(LONG), "{problem}");
        }
        assert_eq!(parse(b"read \xff").unwrap_err(), "it is no text");
    }
}
