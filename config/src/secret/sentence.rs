//! Sentences about a value that is hidden.

/// The sentence with what it quotes of this secret hidden.
pub(crate) fn hidden_in(sentence: &str, secret: &str) -> String {
    // What is quoted of a secret with escapes has other bytes than the text.
    let is_escaped = secret.contains('\\');
    let core = core_of(secret);
    let is_of_it = |quoted: &str| {
        let quoted = quoted.trim_end_matches("...").trim();
        let own = core_of(quoted);
        // A key of weir's tells nothing of a secret that happens to hold it; without it the sentence tells nothing either.
        let is_key = super::is_known(quoted) && quoted != secret;
        let is_part = !is_key && (secret.contains(quoted) || !own.is_empty() && core.contains(&own));
        let holds_it = secret.len() > 1 && quoted.contains(secret) || core.len() > 1 && own.contains(&core);
        let overlaps = !is_key && overlap(&own, &core);
        !quoted.is_empty() && (is_part || holds_it || overlaps || is_escaped && !super::is_known(quoted))
    };
    let mut out = sentence.to_owned();
    for quote in ['`', '"'] {
        let mut parts: Vec<String> = out.split(quote).map(str::to_owned).collect();
        // Between the first and the second quote, the third and the fourth and so on.
        for index in (1..parts.len()).step_by(2) {
            // Examples are weir's own.
            if !parts[index - 1].ends_with("such as ") && is_of_it(&parts[index]) {
                parts[index] = "***".to_owned();
            }
        }
        out = parts.join(&quote.to_string());
    }
    out
}

/// Whether the one ends with what the other begins with: a value is shown in part, and a quote of it may be cut.
fn overlap(quoted: &str, secret: &str) -> bool {
    // Fewer characters are alike by chance.
    const CHARS_MIN: usize = 3;
    let ends_in = |one: &str, other: &str| {
        let starts = other.char_indices().map(|(at, c)| at + c.len_utf8()).skip(CHARS_MIN - 1);
        starts.take_while(|len| *len <= one.len()).any(|len| one.ends_with(&other[..len]))
    };
    ends_in(quoted, secret) || ends_in(secret, quoted)
}

/// Its letters and digits, which quoting leaves as they are.
fn core_of(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_quote_no_secret() {
        let hide = |sentence| hidden_in(sentence, "hunter2");
        assert_eq!(hide("integer `hunter2`, expected a string"), "integer `***`, expected a string");
        assert_eq!(hide("write \"hunter2\" or `hunt...`"), "write \"***\" or `***`");
        assert_eq!(hide("`password` is 2 bytes, must be 1 to 8"), "`password` is 2 bytes, must be 1 to 8");
        let of_keys = hidden_in("missing key `type`, not `fal` of `pass`", "a type, fall and passes");
        assert_eq!(of_keys, "missing key `type`, not `***` of `***`");
        assert_eq!(hidden_in("write `/x?a=hun...`", "?a=hunter2"), "write `***`");
        assert_eq!(hidden_in("write [\"ter2=b\"]", "hunter2"), "write [\"***\"]");
        assert_eq!(hidden_in("not `password`", "password"), "not `***`");
        assert_eq!(hide("write such as \"hunter2\""), "write such as \"hunter2\"");
        assert_eq!(hidden_in("not `a\"b`", "a\\\"b"), "not `***`");
        assert_eq!(hidden_in("not `AB` under `password`", "\\u0041B"), "not `***` under `password`");
    }
}
