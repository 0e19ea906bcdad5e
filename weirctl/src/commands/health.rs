//! `weirctl health`

use weir_api::health::{Listing, RealServer};

use super::nothing;
use crate::screen::{Column, Screen, Table, Tone, time};
use crate::weir::Problem;

/// A row for each real server, and one for each of its checks that has something against it.
pub(super) fn text(
    listing: &Listing<'static>,
    name: Option<&str>,
    screen: &Screen,
) -> Result<String, Problem> {
    if listing.virtual_servers.is_empty() {
        return nothing(name);
    }
    let mut table = Table::new(vec![
        Column::left("SERVER"),
        Column::left("STATE"),
        Column::left("SINCE"),
        Column::right("WEIGHT"),
        Column::left("REASON"),
    ]);
    for it in &listing.virtual_servers {
        let (state, tone) = if it.quorum { ("quorum", Tone::Good) } else { ("no quorum", Tone::Bad) };
        let plain = |text: String| (text, Tone::Plain);
        let sorry = if it.sorry_server { "the sorry server serves" } else { "" };
        table.row(vec![
            (it.name.to_string(), Tone::Title),
            (state.to_owned(), tone),
            plain(time(it.quorum_since)),
            plain(it.weight.to_string()),
            plain(sorry.to_owned()),
        ]);
        for real in &it.real_servers {
            for row in real_server(real) {
                table.row(row);
            }
        }
    }
    Ok(table.render(screen))
}

fn real_server(it: &RealServer<'_>) -> Vec<Vec<(String, Tone)>> {
    let (state, tone) = if it.up { ("up", Tone::Good) } else { ("down", Tone::Bad) };
    let plain = |text: String| (text, Tone::Plain);
    let mut rows = vec![vec![
        plain(format!("  {}", it.real_server)),
        (state.to_owned(), tone),
        plain(time(it.since)),
        plain(it.weight.to_string()),
        plain(it.reason.to_string()),
    ]];
    let troubled =
        it.checks.iter().filter(|check| check.verdict.as_deref() == Some("down") || check.against > 0);
    for check in troubled {
        let detail = check.last_detail.as_deref().or(check.last_result.as_deref()).unwrap_or("no answer yet");
        let verdict = check.verdict.as_deref().unwrap_or("").to_owned();
        let empty = || plain(String::new());
        rows.push(vec![
            plain(format!("    {}", check.check)),
            plain(verdict),
            empty(),
            empty(),
            plain(detail.to_owned()),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_down_is_shown_with_the_check_that_says_so() {
        let listing = serde_json::json!({"virtual_servers": [{
            "name": "web", "quorum": true, "quorum_since": 100.0, "weight": 1, "quorum_weight": 1, "hysteresis": 0,
            "sorry_server": false,
            "real_servers": [
                {"real_server": "10.0.0.11:80", "up": true, "since": 100.0, "reason": "", "weight": 1,
                    "configured_weight": 1, "ejections": 0, "checks": []},
                {"real_server": "10.0.0.12:80", "up": false, "since": 5.0, "reason": "a check fails", "weight": 1,
                    "configured_weight": 1, "ejections": 0, "checks": [
                        {"check": "tcp", "verdict": "down", "against": 0, "last_result": "refused",
                            "last_detail": "connection refused", "last_duration": 0.1, "results": {}}]},
            ],
        }]});
        let listing: Listing<'static> = serde_json::from_value(listing).unwrap();
        assert_eq!(
            text(&listing, None, &Screen::plain(None)).unwrap(),
            "SERVER          STATE   SINCE       WEIGHT  REASON\n\
             web             quorum  1 min 40 s       1\n  \
             10.0.0.11:80  up      1 min 40 s       1\n  \
             10.0.0.12:80  down    5 s              1  a check fails\n    \
             tcp         down                        connection refused\n"
        );
        let none = Listing { virtual_servers: Vec::new() };
        assert!(text(&none, Some("x"), &Screen::plain(None)).is_err());
    }
}
