//! Names of files with `*`, `?`, `[...]` and `{a,b}`, as `include` takes them.

use std::path::{Path, PathBuf};

/// Names that one pattern becomes, files that it finds, and directories that it looks into.
pub(super) const MANY: usize = 10_000;
/// Bytes of a pattern: PATH_MAX of Linux. Longer ones find nothing.
const PATTERN_BYTES_MAX: usize = 4096;

/// What a pattern finds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) paths: Vec<PathBuf>,
    /// Not all of them are here.
    pub(super) is_more: bool,
    /// Names that were looked at.
    pub(super) looked: usize,
}

/// The files of this pattern, in the order of their names. A pattern that does not begin with a slash begins in the directory.
pub(super) fn files(directory: &Path, pattern: &str) -> Found {
    let mut found = Found::default();
    if pattern.len() > PATTERN_BYTES_MAX {
        return found;
    }
    let mut directories = 0;
    let patterns = alternatives(pattern);
    found.is_more = patterns.len() >= MANY;
    for pattern in patterns {
        let whole = directory.join(&pattern);
        let mut paths = vec![PathBuf::new()];
        for part in whole.components() {
            let part = part.as_os_str().to_string_lossy().into_owned();
            if !part.contains(['*', '?', '[']) {
                paths.iter_mut().for_each(|path| path.push(&part));
                continue;
            }
            let mut below = Vec::new();
            for path in paths {
                if below.len() > MANY || directories >= MANY {
                    found.is_more = true;
                    break;
                }
                directories += 1;
                below.extend(entries(&path, &part, &mut found.looked));
            }
            paths = below;
        }
        found.looked += paths.len();
        found.paths.extend(paths.into_iter().filter(|path| path.exists()));
        if found.paths.len() > MANY {
            found.paths.truncate(MANY);
            found.is_more = true;
            break;
        }
    }
    found
}

fn entries(directory: &Path, pattern: &str, looked: &mut usize) -> Vec<PathBuf> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let pattern: Vec<char> = pattern.chars().collect();
    let mut names: Vec<String> = entries
        .inspect(|_| *looked += 1)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') || pattern.first() == Some(&'.'))
        .filter(|name| fits(&pattern, &name.chars().collect::<Vec<_>>()))
        .collect();
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// `a{b,c}d` is `abd` and `acd`. From [`MANY`] on braces stay.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let braces = pattern.find('{').and_then(|from| Some((from, from + pattern[from..].find('}')?)));
        match braces {
            Some((from, to)) if open.len() + done.len() < MANY => {
                let choices = pattern[from + 1..to].rsplit(',');
                open.extend(choices.map(|it| format!("{}{it}{}", &pattern[..from], &pattern[to + 1..])));
            }
            _ => done.push(pattern),
        }
    }
    done
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    // Where to go on when what follows the last star did not fit.
    let (mut at, mut next, mut star) = (0, 0, None);
    while next < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, next));
            at += 1;
        } else if let Some(length) = one(&pattern[at.min(pattern.len())..], name[next]) {
            at += length;
            next += 1;
        } else if let Some((from, tried)) = star {
            star = Some((from, tried + 1));
            at = from + 1;
            next = tried + 1;
        } else {
            return false;
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|&it| it == '*')
}

/// How much of the pattern stands for this letter.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let end = pattern.iter().skip(2).position(|&it| it == ']')? + 2;
            let (is_none, set) = match pattern[1] {
                '!' | '^' => (true, &pattern[2..end]),
                _ => (false, &pattern[1..end]),
            };
            let is_range = |window: &[char]| window[1] == '-' && (window[0]..=window[2]).contains(&letter);
            let is_in = set.contains(&letter) || set.windows(3).any(is_range);
            (is_in != is_none).then_some(end + 1)
        }
        other => (*other == letter).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        let fits = |pattern: &str, name: &str| {
            fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", ""),
            ("a*b*c", "axxbyyc"),
            ("?[a-c]", "xb"),
            ("[!a]x", "bx"),
            ("a**", "a"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("?", ""), ("[a-c]", "d"), ("[", "["), ("a", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert_eq!(alternatives("a{b,c}{d,e}"), ["abd", "abe", "acd", "ace"]);
        assert_eq!(alternatives("a{b"), ["a{b"]);
    }

    #[test]
    fn what_finds_too_much_says_that_there_is_more() {
        let root = Path::new("/");
        assert_eq!(files(root, "proc/self").paths, [Path::new("/proc/self")]);
        // The same name as often as there is a choice.
        let found = files(root, &format!("{{{}}}{{,,,,,,}}", "proc,".repeat(600) + "proc"));
        assert!(!found.is_more && found.paths.len() == 4207, "{}", found.paths.len());
        let found = files(root, &format!("{{{}proc}}{{{}}}", "proc,".repeat(600), ",".repeat(40)));
        assert!(found.is_more && found.paths.len() <= MANY, "{}", found.paths.len());
        for groups in [200, 800, 100_000] {
            let found = files(root, &"{a,b}".repeat(groups));
            assert!(found.paths.is_empty() && found.looked < 2 * MANY, "{groups}");
        }
    }
}
