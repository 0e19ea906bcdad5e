//! The word somebody meant.

/// The candidate nearest to what was written, if it is near enough that a slip of the finger explains it:
/// at most one edit in three characters. Case and the two dashes do not count.
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Nobody mistypes a word this long; the distance takes time proportional to its length.
    if written.len() > 64 {
        return None;
    }
    let folded = fold(written);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|&(edits, candidate)| edits <= (candidate.len().max(written.len()) / 3).max(1))
        .filter(|&(edits, candidate)| edits < candidate.len())
        .min_by_key(|&(edits, candidate)| (edits, candidate.len().abs_diff(written.len())))
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let words = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr"];
        assert_eq!(nearest("wcl", words), Some("wlc"));
        assert_eq!(nearest("WLC", words), Some("wlc"));
        assert_eq!(nearest("lblrc", words), Some("lblcr"));
        assert_eq!(nearest("listen-on", ["listen_on", "mtu"]), Some("listen_on"));
    }

    #[test]
    fn a_strange_word_finds_none() {
        assert_eq!(nearest("random", ["rr", "wrr", "wlc"]), None);
        assert_eq!(nearest("", ["rr"]), None);
        assert_eq!(nearest("x", ["rr"]), None);
        assert_eq!(nearest(&"w".repeat(1000), ["wrr"]), None);
    }
}
