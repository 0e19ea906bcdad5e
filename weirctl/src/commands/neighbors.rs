//! `weirctl neighbors`

use weir_api::neighbors::{Listing, Neighbor};

use crate::cli::Neighbors;
use crate::screen::{Column, Screen, Table, Tone, time};
use crate::weir::Problem;

/// A row for each next hop of each worker that is wanted.
///
/// # Errors
/// A worker has not told all of its own.
pub(super) fn text(listing: &Listing<'_>, wanted: &Neighbors, screen: &Screen) -> Result<String, Problem> {
    let mut rows: Vec<&Neighbor<'_>> = listing.neighbors.iter().filter(|it| is_wanted(it, wanted)).collect();
    rows.sort_by_key(|it| (it.port.clone(), it.vlan, it.address, it.worker));
    let mut table = Table::new(vec![
        Column::left("PORT"),
        Column::right("VLAN").spare(4),
        Column::left("ADDRESS"),
        Column::left("MAC"),
        Column::left("STATE"),
        Column::right("AGE").spare(1),
        Column::right("ASKED").spare(2),
        Column::right("WAITING"),
        Column::left("IN FILE").spare(5),
        Column::right("WORKER").spare(3),
    ]);
    for it in &rows {
        let tone = match &*it.state {
            "failed" => Tone::Bad,
            "static" | "reachable" => Tone::Good,
            _ => Tone::Plain,
        };
        let plain = |text: String| (text, Tone::Plain);
        let dash = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
        table.row(vec![
            plain(it.port.to_string()),
            dash(it.vlan.map(|vlan| vlan.to_string())),
            plain(it.address.to_string()),
            dash(it.mac.as_ref().map(ToString::to_string)),
            (it.state.to_string(), tone),
            dash(it.age_seconds.map(time)),
            plain(it.asked.to_string()),
            plain(it.waiting.to_string()),
            plain(if it.configured { "yes" } else { "no" }.to_owned()),
            plain(it.worker.to_string()),
        ]);
    }
    let text = if rows.is_empty() { "no neighbors\n".to_owned() } else { table.render(screen) };
    match listing.silent_workers.as_slice() {
        [] => Ok(text),
        silent => {
            super::print(&text)?;
            let numbers: Vec<String> = silent.iter().map(ToString::to_string).collect();
            Err(Problem::Failed(format!(
                "not all neighbors are known: no answer of worker {}; `weirctl status` may say why",
                numbers.join(", ")
            )))
        }
    }
}

fn is_wanted(it: &Neighbor<'_>, wanted: &Neighbors) -> bool {
    wanted.port.as_ref().is_none_or(|port| *port == it.port)
        && wanted.address.is_none_or(|address| address == it.address)
        && wanted.state.as_ref().is_none_or(|state| *state == it.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing<'static> {
        let usual = Neighbor {
            worker: 0,
            port: "inside".into(),
            vlan: None,
            address: [10, 0, 0, 11].into(),
            mac: Some("02:00:00:00:00:0b".into()),
            state: "reachable".into(),
            age_seconds: Some(12.4),
            asked: 0,
            waiting: 0,
            configured: true,
        };
        let silent = Neighbor {
            vlan: Some(7),
            address: [10, 0, 0, 9].into(),
            mac: None,
            state: "incomplete".into(),
            age_seconds: None,
            asked: 2,
            waiting: 3,
            configured: false,
            worker: 1,
            ..usual.clone()
        };
        Listing { neighbors: vec![silent, usual], silent_workers: Vec::new() }
    }

    #[test]
    fn next_hops_are_rows_in_order_and_can_be_picked() {
        let all = text(&listing(), &Neighbors::default(), &Screen::plain(None)).unwrap();
        assert_eq!(
            all,
            "PORT    VLAN  ADDRESS    MAC                STATE        AGE  ASKED  WAITING  IN FILE  WORKER\n\
             inside     -  10.0.0.11  02:00:00:00:00:0b  reachable   12 s      0        0  yes           0\n\
             inside     7  10.0.0.9   -                  incomplete     -      2        3  no            1\n"
        );
        let narrow = text(&listing(), &Neighbors::default(), &Screen::plain(Some(80))).unwrap();
        assert!(narrow.lines().all(|line| line.len() <= 80) && narrow.contains("WAITING"), "{narrow}");
        for (wanted, lines) in [
            (Neighbors { state: Some("incomplete".to_owned()), ..Neighbors::default() }, 2),
            (Neighbors { port: Some("outside".to_owned()), ..Neighbors::default() }, 1),
            (Neighbors { address: Some([10, 0, 0, 11].into()), ..Neighbors::default() }, 2),
        ] {
            let shown = text(&listing(), &wanted, &Screen::plain(None)).unwrap();
            assert_eq!(shown.lines().count(), lines, "{shown}");
        }
    }

    #[test]
    fn a_worker_that_does_not_tell_is_named() {
        let listing = Listing { silent_workers: vec![1], ..listing() };
        let problem = text(&listing, &Neighbors::default(), &Screen::plain(None)).unwrap_err();
        assert!(problem.to_string().contains("no answer of worker 1"), "{problem}");
    }
}
