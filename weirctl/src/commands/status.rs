//! `weirctl status`

use std::fmt::Write as _;

use weir_api::director::{Kept, Status};

use crate::screen::{Screen, Tone, time};
use crate::weir::Problem;

/// A certificate is renewed in less.
const CERTIFICATE_SOON_SECONDS: f64 = 14.0 * 86_400.0;

/// A few lines that answer "is it well?".
pub(super) fn text(it: &Status<'static>, screen: &Screen) -> Result<String, Problem> {
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{title:<18}{value}");
    };
    let state = match it.not_ready.as_slice() {
        [] => screen.paint("ready", Tone::Good),
        missing => screen.paint(&format!("not ready: {}", missing.join("; ")), Tone::Bad),
    };
    line("weir", &state);
    let uptime = time(it.uptime_seconds);
    line("version", &format!("{} on DPDK {}, running for {uptime}", it.version, it.dpdk_version));
    let since = it.started + it.uptime_seconds - it.reload_at;
    let reload = match it.reload_successful {
        true => format!("number {}, file read {} ago", it.generation, time(since)),
        false => screen.paint(
            &format!("number {}; the file of {} ago was refused, see the log", it.generation, time(since)),
            Tone::Bad,
        ),
    };
    line("configuration", &reload);
    line("virtual servers", &it.virtual_servers.to_string());
    let down = match it.real_servers_down {
        0 => String::new(),
        down => screen.paint(&format!(", {down} down"), Tone::Bad),
    };
    line("real servers", &format!("{}, {} serving{down}", it.real_servers, it.real_servers_serving));
    let share = it.connections as f64 * 100.0 / it.capacity.max(1) as f64;
    line("connections", &format!("{} of {} ({share:.1} %)", it.connections, it.capacity));
    if let Some(kept) = &it.kept {
        line("kept", &self::kept(kept, screen));
    }
    line("workers", &it.workers.to_string());
    if it.vrrp_instances > 0 {
        line("VRRP", &format!("master of {} of {} instances", it.vrrp_masters, it.vrrp_instances));
    }
    if let Some(certificate) = certificate(it) {
        line("certificate", &screen.paint(&certificate, Tone::Bad));
    }
    Ok(text)
}

/// Who keeps connections, and what became of those of the process before.
fn kept(kept: &Kept<'_>, screen: &Screen) -> String {
    let Kept { by, is_away, found, adopted, goes_on, how, seconds, refused, .. } = kept;
    let by = match is_away {
        true => screen.paint(&format!("{by}, which is away"), Tone::Bad),
        false => by.to_string(),
    };
    let connections = match (how, refused) {
        (_, Some(refused)) => {
            screen.paint(&format!("by {by}; at the start none went on: {refused}"), Tone::Bad)
        }
        (Some(how), None) => {
            let so_far = if *goes_on { ", and more are looked at" } else { "" };
            format!(
                "by {by}; {adopted} of {found} went on at the start ({how}, {:.1} ms){so_far}",
                seconds * 1e3
            )
        }
        (None, None) => format!("by {by}"),
    };
    match (kept.host_interfaces, kept.host_interfaces_adopted) {
        (0, _) => connections,
        (count, adopted) => format!("{connections}; {count} host interfaces, {adopted} of the weir before"),
    }
}

/// What is wrong with the HTTP listener's certificate, or will be soon.
pub(crate) fn certificate(it: &Status<'_>) -> Option<String> {
    let left = it.http_certificate_ends.map(|ends| ends - (it.started + it.uptime_seconds));
    let end = match left {
        Some(left) if left <= 0.0 => {
            Some(format!("it has expired {} ago, and clients refuse it", time(-left)))
        }
        Some(left) if left <= CERTIFICATE_SOON_SECONDS => Some(format!("it expires in {}", time(left))),
        _ => None,
    };
    let key = it.http_key_exposed.then(|| "others may read or write its private key".to_owned());
    let all: Vec<String> = end.into_iter().chain(key).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_is_told_in_a_few_lines() {
        let mut status = Status {
            version: "0.1.0".into(),
            dpdk_version: "22.11.11".into(),
            started: 1_000.0,
            uptime_seconds: 7_260.0,
            not_ready: Vec::new(),
            generation: 3,
            reload_successful: true,
            reload_at: 8_200.0,
            workers: 2,
            connections: 524_288,
            capacity: 2_097_152,
            virtual_servers: 2,
            real_servers: 5,
            real_servers_serving: 4,
            real_servers_down: 0,
            vrrp_instances: 0,
            vrrp_masters: 0,
            kept: None,
            http_certificate_ends: None,
            http_key_exposed: false,
        };
        let shown = text(&status, &Screen::plain(None)).unwrap();
        assert_eq!(
            shown,
            "weir              ready\n\
             version           0.1.0 on DPDK 22.11.11, running for 2 h 1 min\n\
             configuration     number 3, file read 1 min 0 s ago\n\
             virtual servers   2\n\
             real servers      5, 4 serving\n\
             connections       524288 of 2097152 (25.0 %)\n\
             workers           2\n"
        );
        status.not_ready = vec!["port lan has no link".to_owned()];
        (status.reload_successful, status.real_servers_down) = (false, 1);
        (status.vrrp_instances, status.vrrp_masters) = (2, 1);
        let shown = text(&status, &Screen::plain(None)).unwrap();
        for part in [
            "weir              not ready: port lan has no link\n",
            "number 3; the file of 1 min 0 s ago was refused, see the log\n",
            "5, 4 serving, 1 down\n",
            "VRRP              master of 1 of 2 instances\n",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let kept = |found, how: Option<&'static str>, refused: Option<&'static str>| Kept {
            by: "systemd".into(),
            is_away: false,
            found,
            adopted: found,
            goes_on: false,
            how: how.map(Into::into),
            seconds: 0.0125,
            host_interfaces: 0,
            host_interfaces_adopted: 0,
            refused: refused.map(Into::into),
        };
        for (said, expected) in [
            (kept(0, None, None), "kept              by systemd\n"),
            (
                kept(7, Some("in place"), None),
                "by systemd; 7 of 7 went on at the start (in place, 12.5 ms)\n",
            ),
            (kept(0, None, Some("it is damaged")), "by systemd; at the start none went on: it is damaged\n"),
            (Kept { is_away: true, ..kept(0, None, None) }, "by systemd, which is away\n"),
            (
                Kept { goes_on: true, ..kept(7, Some("in place"), None) },
                "(in place, 12.5 ms), and more are looked at\n",
            ),
            (
                Kept { host_interfaces: 2, host_interfaces_adopted: 1, ..kept(0, None, None) },
                "by systemd; 2 host interfaces, 1 of the weir before\n",
            ),
        ] {
            status.kept = Some(said);
            let told = text(&status, &Screen::plain(None)).unwrap();
            assert!(told.contains(expected), "{told}");
        }
        assert_eq!(certificate(&status), None);
        let now = status.started + status.uptime_seconds;
        status.http_certificate_ends = Some(now + 20.0 * 86_400.0);
        assert_eq!(certificate(&status), None);
        status.http_certificate_ends = Some(now - 7_200.0);
        status.http_key_exposed = true;
        let told = text(&status, &Screen::plain(None)).unwrap();
        let expected = "certificate       it has expired 2 h 0 min ago, and clients refuse it; others may read or write its private key\n";
        assert!(told.ends_with(expected), "{told}");
    }
}
