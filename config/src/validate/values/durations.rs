//! Numbers of seconds, and what other programs write for them.

use std::sync::LazyLock;

/// The seconds of a duration with its unit, as other programs write one: "500ms", "5 min".
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..digits].parse().ok()?;
    Some(match text[digits..].trim() {
        "ms" => number / 1000.0,
        "s" | "sec" | "second" | "seconds" => number,
        "m" | "min" | "minute" | "minutes" => number * 60.0,
        "h" | "hour" | "hours" => number * 3600.0,
        "d" | "day" | "days" => number * 86_400.0,
        _ => return None,
    })
}

/// Whether a key of weir's holds a number of seconds.
pub(crate) fn is_in_seconds(key: &str) -> bool {
    const ENDS: [&str; 8] =
        ["timeout", "interval", "delay", "expiration", "refresh", "warmup", "window", "ejection"];
    static TIMEOUTS: LazyLock<&[&str]> =
        LazyLock::new(|| crate::keys_of("connections.timeouts").unwrap_or_default());
    key == "ejection_max" || ENDS.iter().any(|end| key.ends_with(end)) || TIMEOUTS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_other_programs_are_numbers_of_seconds() {
        for (text, wanted) in
            [("500ms", 0.5), ("5m", 300.0), ("2 h", 7200.0), ("1.5s", 1.5), ("1 day", 86_400.0)]
        {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
        for text in ["", "5", "m", "5x", "five min", "5m5s", "."] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let plain = ["capacity", "weight", "mtu", "quorum", "fall", "jitter", "port", "sleep_max_us", "type"];
        assert!(plain.iter().all(|key| !is_in_seconds(key)));
        let times = ["persistence_timeout", "tcp_fin_wait", "interval", "preempt_delay", "udp"];
        assert!(times.iter().all(|key| is_in_seconds(key)));
    }
}
