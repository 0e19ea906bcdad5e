//! `weirctl list`

use weir_api::virtual_servers::{Figures, Listing, RealServer, Served, VirtualServer};

use super::nothing;
use crate::screen::{Column, Screen, Table, Tone, short};
use crate::weir::Problem;

/// A row for each virtual server and, indented, each of its real servers.
pub(super) fn text(
    listing: &Listing<'static>,
    name: Option<&str>,
    screen: &Screen,
) -> Result<String, Problem> {
    if listing.virtual_servers.is_empty() {
        return nothing(name);
    }
    Ok(table(listing).render(screen))
}

pub(super) fn table(listing: &Listing<'_>) -> Table {
    let mut table = Table::new(vec![
        Column::left("SERVER"),
        Column::left("METHOD"),
        Column::right("WEIGHT"),
        Column::right("ACTIVE"),
        Column::right("INACT"),
        Column::right("CONN/S"),
        Column::right("IN PKT/S").spare(2),
        Column::right("OUT PKT/S").spare(3),
        Column::right("IN BIT/S").spare(4),
        Column::right("OUT BIT/S").spare(5),
    ]);
    for server in &listing.virtual_servers {
        table.row(virtual_server(server));
        for real in &server.real_servers {
            table.row(real_server(real));
        }
    }
    table
}

fn virtual_server(server: &VirtualServer<'_>) -> Vec<(String, Tone)> {
    let weight: u64 = server.real_servers.iter().map(|real| u64::from(real.weight)).sum();
    // With nobody to serve, its clients are refused.
    let tone = if weight == 0 { Tone::Bad } else { Tone::Title };
    let mut cells = vec![
        (label(server), tone),
        (server.scheduler.to_string(), Tone::Plain),
        (String::new(), Tone::Plain),
        (short(server.active), Tone::Plain),
        (short(server.inactive), Tone::Plain),
    ];
    cells.extend(rates(&server.carried.per_second));
    cells
}

fn real_server(real: &RealServer<'_>) -> Vec<(String, Tone)> {
    let weight = if real.weight == 0 { Tone::Bad } else { Tone::Plain };
    let mut cells = vec![
        (format!("  {}", real.real_server), Tone::Plain),
        (real.forwarding.to_string(), Tone::Plain),
        (real.weight.to_string(), weight),
        (short(real.active.into()), Tone::Plain),
        (short(real.inactive.into()), Tone::Plain),
    ];
    cells.extend(rates(&real.carried.per_second));
    cells
}

fn rates(figures: &Figures) -> [(String, Tone); 5] {
    let Figures { connections, in_packets, out_packets, in_bytes, out_bytes } = *figures;
    [connections, in_packets, out_packets, in_bytes.saturating_mul(8), out_bytes.saturating_mul(8)]
        .map(|figure| (short(figure), Tone::Plain))
}

/// Its name and what it serves, which is enough where the name was made of it.
fn label(server: &VirtualServer<'_>) -> String {
    let served = served(&server.traffic);
    if server.name == served.replacen(' ', "-", 1) { served } else { format!("{} {served}", server.name) }
}

/// `tcp 192.0.2.1:80` or `mark 7`.
pub(crate) fn served(traffic: &Served<'_>) -> String {
    match traffic {
        Served::Mark { mark, family } if family == "ipv6" => format!("mark {mark} (IPv6)"),
        Served::Mark { mark, .. } => format!("mark {mark}"),
        Served::Address { address, port, protocol } => {
            format!("{protocol} {}", std::net::SocketAddr::new(*address, *port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::weir::Weir;

    fn listing() -> Listing<'static> {
        let mut model = Model::default();
        let edits = serde_json::json!([
            {"op": "add_virtual_server", "virtual_server":
                {"protocol": "tcp", "address": "192.0.2.1", "port": 80, "scheduler": "wrr"}},
            {"op": "add_real_server", "virtual_server": {"protocol": "tcp", "address": "192.0.2.1", "port": 80},
                "real_server": {"address": "10.0.0.11", "port": 8080, "forwarding": "nat", "weight": 3}},
        ]);
        model.edit(serde_json::from_value(edits).unwrap()).unwrap();
        model.services[0].name = "web".into();
        model.services[0].real_servers[0].active = 12_345;
        model.services[0].carried.per_second.in_bytes = 125_000_000;
        Listing { virtual_servers: model.services }
    }

    #[test]
    fn servers_are_listed_with_what_there_is_room_for() {
        let wide = text(&listing(), None, &Screen::plain(None)).unwrap();
        assert_eq!(
            wide,
            "SERVER                METHOD  WEIGHT  ACTIVE  INACT  CONN/S  IN PKT/S  OUT PKT/S  IN BIT/S  OUT BIT/S\n\
             web tcp 192.0.2.1:80  wrr                  0      0       0         0          0     1.00G          0\n  \
             10.0.0.11:8080      nat          3   12.3k      0       0         0          0         0          0\n"
        );
        let mut made = listing();
        made.virtual_servers[0].name = "tcp-192.0.2.1:80".into();
        assert!(text(&made, None, &Screen::plain(None)).unwrap().contains("\ntcp 192.0.2.1:80  wrr"));
        let narrow = text(&listing(), None, &Screen::plain(Some(80))).unwrap();
        assert!(narrow.lines().all(|line| line.len() <= 80), "{narrow}");
        assert!(narrow.contains("OUT PKT/S") && !narrow.contains("IN BIT/S"), "{narrow}");
    }

    #[test]
    fn a_name_that_nobody_has_is_said() {
        let none = Listing { virtual_servers: Vec::new() };
        assert_eq!(text(&none, None, &Screen::plain(None)).unwrap(), "no virtual servers\n");
        let problem = text(&none, Some("wep"), &Screen::plain(None)).unwrap_err();
        assert_eq!(problem.to_string(), "there is no virtual server wep; `weirctl list` shows their names");
    }
}
