//! Debian's samples of keepalived, where its package is installed.

use super::*;

const SAMPLES: &str = "/usr/share/doc/keepalived/samples";
/// Those without anything that weir serves, and one that is cut off by its authors.
const NOTHING: [&str; 0] = [];

#[test]
fn every_sample_is_carried_and_checked() {
    let Ok(entries) = std::fs::read_dir(SAMPLES) else { return };
    let mut seen = 0;
    let mut honest = honest::Honest::default();
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("keepalived.conf") {
            continue;
        }
        let made = match keepalived(&path, &[], None) {
            Ok(made) => made,
            Err(problem) => panic!("{name}: {problem}"),
        };
        assert_eq!(made.is_something, !NOTHING.contains(&name.as_str()), "{name}: {}", made.report);
        model(&made);
        // Nothing is lost without a word.
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["virtual_server ", "real_server "] {
            let is_word = |line: &&str| line.trim_start().starts_with(word);
            let wanted = text.lines().filter(is_word).count();
            let there = made
                .text
                .matches(&format!(
                    "[[{}",
                    if word.starts_with('v') { "virtual_server]]" } else { "virtual_server.real_server]]" }
                ))
                .count();
            let left = made.report.matches("`real_server ").count()
                + made.report.matches("`virtual_server ").count();
            assert!(
                there + left >= wanted,
                "{name}: {wanted} {word}, {there} there, {left} left out\n{}",
                made.report
            );
        }
        honest.look(&text, &[], None);
        seen += 1;
    }
    honest.end(honest::TIMES_OF_CHECKS);
    assert!(seen > 20, "{seen}");
}
