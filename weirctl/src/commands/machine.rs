//! `weirctl workers`, `ports` and `stats`

use std::collections::BTreeMap;

use weir_api::director::{Counters, Ports};
use weir_api::workers::Listing;

use crate::screen::{Column, Screen, Table, Tone, short};

/// A row for each worker.
pub(super) fn workers(listing: &Listing, screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::right("WORKER"),
        Column::right("BUSY"),
        Column::right("CONNECTIONS"),
        Column::right("FULL"),
        Column::right("RECEIVED"),
        Column::right("FORWARDED"),
        Column::right("ANSWERED").spare(1),
        Column::right("DROPPED"),
        Column::right("LONGEST PASS").spare(2),
    ]);
    for it in &listing.workers {
        let cycles = it.busy_cycles.saturating_add(it.idle_cycles).max(1);
        let percent = |part: u64, whole: u64| format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64);
        let dropped = if it.dropped == 0 { Tone::Plain } else { Tone::Bad };
        let plain = |text: String| (text, Tone::Plain);
        table.row(vec![
            plain(it.worker.to_string()),
            plain(percent(it.busy_cycles, cycles)),
            plain(it.connections.to_string()),
            plain(percent(it.connections, it.capacity)),
            plain(short(it.received)),
            plain(short(it.forwarded)),
            plain(short(it.answered)),
            (short(it.dropped), dropped),
            plain(format!("{:.0} us", it.longest_pass_seconds * 1e6)),
        ]);
    }
    table.render(screen)
}

/// A row for each port.
pub(super) fn ports(listing: &Ports<'_>, screen: &Screen) -> String {
    let mut table = Table::new(vec![
        Column::left("PORT"),
        Column::left("LINK"),
        Column::left("DEVICE").spare(4),
        Column::right("VLAN"),
        Column::right("IN PKT"),
        Column::right("IN BYTE"),
        Column::right("OUT PKT"),
        Column::right("OUT BYTE"),
        Column::right("MISSED"),
        Column::right("IN ERR").spare(2),
        Column::right("OUT ERR").spare(3),
        Column::right("NO BUFFER").spare(1),
    ]);
    for it in &listing.ports {
        let (link, tone) = match it.link_up {
            Some(true) => ("up", Tone::Good),
            Some(false) => ("down", Tone::Bad),
            None => ("unknown", Tone::Plain),
        };
        let vlan = it.vlan.map_or_else(|| "-".to_owned(), |vlan| vlan.to_string());
        let place = [it.device_name.to_string(), vlan].map(|text| (text, Tone::Plain));
        let mut row = vec![(it.port.to_string(), Tone::Plain), (link.to_owned(), tone)];
        row.extend(place);
        let carried = [it.receive_packets, it.receive_bytes, it.transmit_packets, it.transmit_bytes];
        row.extend(carried.map(|figure| (short(figure), Tone::Plain)));
        let lost = it.device.map(|it| [it.missed, it.receive_errors, it.transmit_errors, it.no_buffer]);
        row.extend(lost.map_or_else(
            || [(); 4].map(|()| ("-".to_owned(), Tone::Plain)),
            |lost| lost.map(|figure| (short(figure), if figure == 0 { Tone::Plain } else { Tone::Bad })),
        ));
        table.row(row);
    }
    table.render(screen)
}

/// A row for each counter; those that stand at 0 only if `all` are wanted.
pub(super) fn counters(it: &Counters, all: bool, screen: &Screen) -> String {
    let mut table = Table::new(vec![Column::left("COUNTER"), Column::right("SINCE START")]);
    let plain = [
        ("forwarded", it.forwarded),
        ("absorbed", it.absorbed),
        ("forwarded without a record", it.untracked),
        ("without room for an IPv6 client", it.ipv6_clients_full),
        ("connections without a template", it.templates_full),
        ("waiting for a neighbour", it.waiting),
        ("ARP requests", it.arp_requests),
        ("neighbour solicitations", it.nd_solicitations),
        ("ARP conflicts", it.arp_conflicts),
    ];
    for (name, count) in plain.into_iter().filter(|(_, count)| all || *count > 0) {
        table.plain(vec![name.to_owned(), count.to_string()]);
    }
    let mut group = |title: &str, counts: &BTreeMap<String, u64>| {
        for (name, count) in counts.iter().filter(|(_, count)| all || **count > 0) {
            table.plain(vec![format!("{title} {name}"), count.to_string()]);
        }
    };
    group("answered", &it.answered);
    group("dropped", &it.dropped);
    if table.is_empty() {
        return "nothing yet\n".to_owned();
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_api::director::{Device, Port};
    use weir_api::workers::Worker;

    #[test]
    fn workers_ports_and_counters_have_a_row_each() {
        let worker = Worker {
            worker: 0,
            generation: 1,
            connections: 5,
            capacity: 10,
            busy_cycles: 1,
            idle_cycles: 3,
            received: 20_000,
            forwarded: 9,
            answered: 1,
            dropped: 2,
            passes: 4,
            passes_within: Vec::new(),
            longest_pass_seconds: 0.000_042,
        };
        let listing = Listing { cycle_frequency: 1, workers: vec![worker] };
        assert_eq!(
            workers(&listing, &Screen::plain(None)),
            "WORKER    BUSY  CONNECTIONS    FULL  RECEIVED  FORWARDED  ANSWERED  DROPPED  LONGEST PASS\n     \
             0  25.0 %            5  50.0 %     20.0k          9         1        2         42 us\n"
        );
        let port = Port {
            port: "lan".into(),
            device_name: "net_null0".into(),
            vlan: None,
            link_up: Some(true),
            receive_packets: 1,
            receive_bytes: 2,
            transmit_packets: 3,
            transmit_bytes: 4,
            device: None,
        };
        let device = Device { missed: 5, receive_errors: 6, transmit_errors: 7, no_buffer: 8 };
        let with =
            Port { port: "wan".into(), vlan: Some(7), device: Some(device), link_up: None, ..port.clone() };
        assert_eq!(
            ports(&Ports { ports: vec![port, with] }, &Screen::plain(None)),
            "PORT  LINK     DEVICE     VLAN  IN PKT  IN BYTE  OUT PKT  OUT BYTE  MISSED  IN ERR  OUT ERR  NO BUFFER\n\
             lan   up       net_null0     -       1        2        3         4       -       -        -          -\n\
             wan   unknown  net_null0     7       1        2        3         4       5       6        7          8\n"
        );
        let mut counted = Counters {
            forwarded: 7,
            absorbed: 0,
            untracked: 0,
            ipv6_clients_full: 0,
            templates_full: 0,
            waiting: 0,
            arp_requests: 0,
            nd_solicitations: 0,
            arp_conflicts: 0,
            dropped: [("too_big".to_owned(), 1), ("no_route".to_owned(), 0)].into(),
            answered: BTreeMap::new(),
        };
        let few = counters(&counted, false, &Screen::plain(None));
        assert_eq!(
            few,
            "COUNTER          SINCE START\nforwarded                  7\ndropped too_big            1\n"
        );
        assert!(counters(&counted, true, &Screen::plain(None)).contains("dropped no_route"));
        (counted.forwarded, counted.dropped) = (0, BTreeMap::new());
        assert_eq!(counters(&counted, false, &Screen::plain(None)), "nothing yet\n");
    }
}
