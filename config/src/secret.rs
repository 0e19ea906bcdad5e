//! Values that no report shows: passwords and their like.
//!
//! Reports quote the text, and they go to logs that many people read. The text may be no TOML, and the key misspelt or one
//! of another program's, so this looks at words and not at the tree: what follows a word that announces a secret is
//! hidden up to the end of its line, or of its string of several lines. That hides a little too much at times.

use std::ops::Range;

/// Words that announce a secret wherever they stand, such as in the arguments of a program.
const EVERYWHERE: [&str; 6] = ["passw", "passphrase", "secret", "token", "authorization", "credential"];
/// Those that do before an equals sign or at the beginning of a line: other programs' words, and misspelt ones.
const AS_KEY: [&str; 7] = ["pas", "pwd", "psw", "pws", "_auth", "cookie", "api_key"];
/// Keys of weir's that only look like them.
const HARMLESS: [&str; 2] = ["passive", "bypass"];

/// The places of all secrets in a text, in their order.
pub(crate) fn spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |len| at + len);
        match in_line(&text[at..line_end]) {
            Some(value) => {
                let end = value_end(text, at + value, line_end);
                spans.push(at + value..end);
                at = end + 1;
            }
            None => at = line_end + 1,
        }
    }
    spans
}

/// The text with its secrets hidden. All other bytes are where they were.
pub(crate) fn hidden(text: &str, spans: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        out.push_str(&text[at..span.start]);
        let stars = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
        out.extend(text[span.clone()].chars().map(stars));
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// A sentence about this secret with what it quotes of it hidden.
pub(crate) fn hidden_in(sentence: &str, secret: &str) -> String {
    let mut out = sentence.to_owned();
    for quote in ['`', '"'] {
        let mut parts: Vec<String> = out.split(quote).map(str::to_owned).collect();
        // Between the first and the second quote, the third and the fourth and so on.
        for quoted in parts.iter_mut().skip(1).step_by(2) {
            let shown = quoted.trim_end_matches("...").trim();
            if !shown.is_empty()
                && (secret.contains(shown) || shown.contains(secret.trim_matches(['"', '\''])))
            {
                *quoted = "***".to_owned();
            }
        }
        out = parts.join(&quote.to_string());
    }
    out
}

/// Where in a line a secret begins.
fn in_line(line: &str) -> Option<usize> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut at = 0;
    while let Some(begin) = line[at..].find(is_word).map(|skipped| at + skipped) {
        let end = line[begin..].find(|c| !is_word(c)).map_or(line.len(), |len| begin + len);
        let rest = &line[end..];
        let value =
            rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '=' | ':' | '"' | '\''));
        let has_value = !value.is_empty() || rest.contains('=');
        let has_equals = rest.trim_start_matches(['"', '\'']).trim_start().starts_with('=');
        let is_key = has_equals || line[..begin].trim().is_empty();
        if has_value && announces(&line[begin..end].to_ascii_lowercase(), is_key) {
            // The quotes of the value stay with it.
            let skipped = rest.find('=').filter(|_| has_equals).map_or(0, |equals| equals + 1);
            return Some(end + skipped + rest[skipped..].len() - rest[skipped..].trim_start().len());
        }
        at = end;
    }
    None
}

fn announces(word: &str, is_key: bool) -> bool {
    let has = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    !HARMLESS.contains(&word) && (has(&EVERYWHERE) || is_key && has(&AS_KEY))
}

/// Where a secret ends that begins at `begin` in a line that ends at `line_end`.
fn value_end(text: &str, begin: usize, line_end: usize) -> usize {
    let value = &text[begin..];
    let line_end_after = |at: usize| text[at..].find('\n').map_or(text.len(), |len| at + len);
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inside) = value.strip_prefix(quotes) {
            let closing = inside.find(quotes).map(|len| begin + quotes.len() + len);
            return closing.map_or(text.len(), line_end_after);
        }
    }
    // Nothing behind the equals sign: whoever wrote that meant the next line.
    if text[begin..line_end].trim().is_empty() && line_end < text.len() {
        return line_end_after(line_end + 1);
    }
    line_end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        hidden(text, &spans(text))
    }

    #[test]
    fn what_follows_a_word_that_announces_a_secret_is_hidden() {
        for (text, wanted) in [
            ("password = \"hunter2\"", "password = *********"),
            ("password = \"hunter2\" # old: x\n a = 1", "password = ********* * **** *\n a = 1"),
            ("\"password\"=\"hun\"ter2\"", "\"password\"=**********"),
            ("authentication.password='é'", "authentication.password=****"),
            ("a = { type = \"pass\", password = \"x\" }", "a = { type = \"pass\", password = *** *"),
            ("pasword = \"x\"\nb = 2", "pasword = ***\nb = 2"),
            ("  auth_pass hunter2", "  auth_pass *******"),
            ("auth_pass = hunter2", "auth_pass = *******"),
            ("args = [\"--password\", \"x\"]", "args = [\"--password** ****"),
            ("password =\n  \"x\"\nb = 2", "password =\n  ***\nb = 2"),
            ("password = \"\"\"a\nb\nc\"\"\"\nd = 1", "password = ****\n*\n****\nd = 1"),
            ("password = '''a\nb", "password = ****\n*"),
            ("args = [\"--token\", \"x\", \"a=b\"]", "args = [\"--token** **** ******"),
            ("token", "token"),
            ("[virtual_server.passive]", "[virtual_server.passive]"),
            ("name = \"web\"", "name = \"web\""),
            ("passive = { window = 3 }", "passive = { window = 3 }"),
            ("type = \"pass\"", "type = \"pass\""),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }

    #[test]
    fn sentences_quote_no_secret() {
        let hide = |sentence| hidden_in(sentence, "\"hunter2\"");
        assert_eq!(hide("integer `hunter2`, expected a string"), "integer `***`, expected a string");
        assert_eq!(hide("write \"hunter2\" or `hunt...`"), "write \"***\" or `***`");
        assert_eq!(hide("`password` is 2 bytes, must be 1 to 8"), "`password` is 2 bytes, must be 1 to 8");
    }

    #[test]
    fn any_text_keeps_its_length_and_lines() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let shown = shown(text);
            assert_eq!(shown.len(), text.len());
            assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        });
    }
}
