//! `weirctl neighbors`

use weir_api::director::Ports;
use weir_api::neighbors::{Listing, Neighbor};

use super::{Asked, print};
use crate::cli::Neighbors;
use crate::screen::{Column, Screen, Table, Tone, time};
use crate::weir::Problem;

/// Prints those that are wanted.
pub(super) fn run(asked: &mut Asked, wanted: &Neighbors) -> Result<(), Problem> {
    if let Some(name) = &wanted.port {
        let Ports { ports } = asked.client.get("/api/v1/ports")?;
        if !ports.iter().any(|port| port.port == *name) {
            let names: Vec<_> = ports.iter().map(|port| &*port.port).collect();
            let text = format!("there is no port {name}; there are {}", names.join(", "));
            return Err(Problem::Failed(text));
        }
    }
    let mut listing: Listing<'static> = asked.client.get("/api/v1/neighbors")?;
    listing.neighbors.retain(|it| is_wanted(it, wanted));
    match asked.is_json {
        true => asked.print_json(&listing)?,
        false => print(&text(&listing, &asked.screen))?,
    }
    match listing.silent_workers.as_slice() {
        [] => Ok(()),
        silent => {
            let numbers: Vec<String> = silent.iter().map(ToString::to_string).collect();
            Err(Problem::Failed(format!(
                "not all neighbors are known: no answer of worker {}; `weirctl status` may say why",
                numbers.join(", ")
            )))
        }
    }
}

/// A row for each next hop of each worker.
fn text(listing: &Listing<'_>, screen: &Screen) -> String {
    let mut rows: Vec<&Neighbor<'_>> = listing.neighbors.iter().collect();
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
    if rows.is_empty() { "no neighbors\n".to_owned() } else { table.render(screen) }
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
        let all = text(&listing(), &Screen::plain(None));
        assert_eq!(
            all,
            "PORT    VLAN  ADDRESS    MAC                STATE        AGE  ASKED  WAITING  IN FILE  WORKER\n\
             inside     -  10.0.0.11  02:00:00:00:00:0b  reachable   12 s      0        0  yes           0\n\
             inside     7  10.0.0.9   -                  incomplete     -      2        3  no            1\n"
        );
        let narrow = text(&listing(), &Screen::plain(Some(80)));
        assert!(narrow.lines().all(|line| line.len() <= 80) && narrow.contains("WAITING"), "{narrow}");
        for (wanted, count) in [
            (Neighbors { state: Some("incomplete".to_owned()), ..Neighbors::default() }, 1),
            (Neighbors { port: Some("outside".to_owned()), ..Neighbors::default() }, 0),
            (Neighbors { address: Some([10, 0, 0, 11].into()), ..Neighbors::default() }, 1),
        ] {
            let picked = listing().neighbors.iter().filter(|it| is_wanted(it, &wanted)).count();
            assert_eq!(picked, count, "{wanted:?}");
        }
    }
}
