//! `weirctl explain`: a line for each step, and the decision on the last one.

use std::fmt::Write as _;
use std::net::SocketAddr;

use weir_api::explain::{Explanation, Verdict};

use crate::screen::{Screen, Tone};
use crate::weir::Problem;

/// Room for the names of steps.
const STEP_WIDTH: usize = 16;

/// What the workers say, one after the other where they differ.
pub(super) fn text(it: &Explanation<'_>, screen: &Screen) -> Result<String, Problem> {
    if it.verdicts.is_empty() {
        return Err(Problem::Failed(format!(
            "{} not answered within a second; `weirctl status` says whether weir works",
            have(&it.silent)
        )));
    }
    let packet = &it.packet;
    let segment = packet.segment.as_ref().map_or_else(String::new, |segment| format!("{segment}, "));
    let mut text = String::new();
    let mut line = |step: &str, what: &str, tone: Tone| {
        // The name is padded before it is painted.
        let _ = writeln!(
            text,
            "{}{}",
            screen.paint(&format!("{step:<STEP_WIDTH$}"), Tone::Title),
            screen.paint(what, tone)
        );
    };
    let what = format!(
        "{} {} to {}, {segment}{} bytes, by port {}",
        packet.protocol,
        SocketAddr::new(packet.source, packet.source_port),
        SocketAddr::new(packet.destination, packet.destination_port),
        packet.length,
        packet.port
    );
    line("packet", &what, Tone::Plain);
    for verdict in &it.verdicts {
        if it.verdicts.len() > 1 || !it.silent.is_empty() {
            line("worker", &list(&verdict.workers), Tone::Title);
        }
        for step in &verdict.steps {
            line(&step.step, &step.text, Tone::Plain);
        }
        line("decision", &verdict.text, tone(verdict));
    }
    if !it.silent.is_empty() {
        line("silent", &format!("{} not answered within a second", have(&it.silent)), Tone::Bad);
    }
    Ok(text)
}

fn tone(verdict: &Verdict<'_>) -> Tone {
    match &*verdict.verdict {
        "forwarded" => Tone::Good,
        "dropped" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn have(workers: &[usize]) -> String {
    match workers {
        [worker] => format!("worker {worker} has"),
        workers => format!("workers {} have", list(workers)),
    }
}

fn list(workers: &[usize]) -> String {
    workers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(verdicts: &[(&[usize], &str)], silent: &[usize]) -> Explanation<'static> {
        let verdicts: Vec<_> = verdicts
            .iter()
            .map(|(workers, text)| {
                serde_json::json!({
                    "workers": workers, "verdict": "forwarded", "text": text, "connection": "new",
                    "steps": [{"step": "virtual server", "text": "web: tcp 192.0.2.1:80, rr"}],
                })
            })
            .collect();
        let packet = serde_json::json!({
            "protocol": "tcp", "source": "198.51.100.7", "source_port": 4000, "destination": "192.0.2.1",
            "destination_port": 80, "segment": "syn", "length": 40, "port": "lan",
        });
        let it = serde_json::json!({"packet": packet, "verdicts": verdicts, "silent": silent});
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn steps_are_aligned_and_the_decision_comes_last() {
        let screen = Screen::plain(None);
        let one = text(&explanation(&[(&[0, 1], "forwarded to real server 10.0.0.11:80")], &[]), &screen);
        assert_eq!(
            one.unwrap(),
            "packet          tcp 198.51.100.7:4000 to 192.0.2.1:80, syn, 40 bytes, by port lan\n\
             virtual server  web: tcp 192.0.2.1:80, rr\n\
             decision        forwarded to real server 10.0.0.11:80\n"
        );
    }

    #[test]
    fn workers_that_differ_have_their_say_and_silent_ones_are_named() {
        let screen = Screen::plain(None);
        let two = text(&explanation(&[(&[0], "one"), (&[1, 2], "other")], &[3]), &screen).unwrap();
        let lines: Vec<_> = two.lines().collect();
        assert_eq!(lines[1], "worker          0");
        assert_eq!(lines[3], "decision        one");
        assert_eq!(lines[4], "worker          1, 2");
        assert_eq!(lines[7], "silent          worker 3 has not answered within a second");
        let none = text(&explanation(&[], &[0, 1]), &screen).unwrap_err().to_string();
        assert!(none.starts_with("workers 0, 1 have not answered"), "{none}");
    }
}
