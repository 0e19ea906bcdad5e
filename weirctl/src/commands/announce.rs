//! `weirctl announce`

use weir_api::announce::{Listing, Route};

use crate::screen::{Column, Screen, Table, Tone, time};

/// A row for each route, and what is wrong with it.
pub(super) fn text(listing: &Listing<'_>, screen: &Screen) -> String {
    if listing.routes.is_empty() {
        return "nothing is announced\n".to_owned();
    }
    let mut table = Table::new(vec![
        Column::left("ROUTE"),
        Column::left("STATE"),
        Column::left("SINCE"),
        Column::right("TABLE"),
        Column::right("METRIC"),
        Column::left("DEVICE"),
        Column::left("VIRTUAL SERVERS").spare(1),
        Column::left("WHY"),
    ]);
    for it in &listing.routes {
        let tone = match &*it.state {
            _ if it.problem.is_some() => Tone::Bad,
            "serving" => Tone::Good,
            _ => Tone::Plain,
        };
        let plain = |text: String| (text, Tone::Plain);
        let why = it.problem.as_ref().or(it.why.as_ref()).map(ToString::to_string).unwrap_or_default();
        table.row(vec![
            plain(it.route.to_string()),
            (state(it), tone),
            plain(time(it.since_seconds)),
            plain(it.table.to_string()),
            plain(it.metric.map_or_else(|| "-".to_owned(), |metric| metric.to_string())),
            plain(it.interface.to_string()),
            plain(it.virtual_servers.join(" ")),
            plain(why),
        ]);
    }
    table.render(screen)
}

/// What it is, beside what it is to be.
fn state(it: &Route<'_>) -> String {
    match it.problem {
        Some(_) => format!("{}, failed", it.state),
        None => it.state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_a_row_with_what_is_wrong_with_it() {
        let route = |route: &str,
                     state: &str,
                     metric: Option<u32>,
                     why: Option<&str>,
                     problem: Option<&str>| {
            serde_json::json!({
                "route": route, "table": 254, "interface": "weir-vips", "state": state, "metric": metric, "why": why,
                "since": 1.0, "since_seconds": 61.5, "virtual_servers": ["web", "tls"], "vrrp": null, "problem": problem,
            })
        };
        let listing = serde_json::json!({ "routes": [
            route("192.0.2.1/32", "serving", Some(100), None, None),
            route("192.0.2.2/32", "withdrawn", None, Some("no quorum"), None),
            route("192.0.2.3/32", "serving", None, None, Some("another route is there")),
        ]});
        let listing: Listing<'static> = serde_json::from_value(listing).unwrap();
        assert_eq!(
            text(&listing, &Screen::plain(None)),
            "ROUTE         STATE            SINCE      TABLE  METRIC  DEVICE     VIRTUAL SERVERS  WHY\n\
             192.0.2.1/32  serving          1 min 1 s    254     100  weir-vips  web tls\n\
             192.0.2.2/32  withdrawn        1 min 1 s    254       -  weir-vips  web tls          no quorum\n\
             192.0.2.3/32  serving, failed  1 min 1 s    254       -  weir-vips  web tls          another route is there\n"
        );
        assert_eq!(text(&Listing { routes: Vec::new() }, &Screen::plain(None)), "nothing is announced\n");
    }
}
