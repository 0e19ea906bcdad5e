//! `weirctl connections`: as they come, so that millions take no memory here.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use weir_api::connections::Connection;
use weir_api::virtual_servers::Listing;

use super::{Asked, print};
use crate::cli::{Connections, encoded};
use crate::screen::{Column, Screen, Table};
use crate::weir::{Problem, Weir};

/// Prints those that are wanted.
pub(super) fn run(asked: &mut Asked, wanted: &Connections) -> Result<(), Problem> {
    let query = wanted.query();
    if wanted.count {
        let mut counts = Counts::default();
        asked.client.connections(&query, &mut |connection| {
            counts.add(&connection);
            Ok(())
        })?;
        if counts.0.is_empty() {
            is_there(asked, wanted)?;
        }
        let text = if asked.is_json { counts.json() } else { counts.text(&asked.screen) };
        return print(&text);
    }
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut is_empty = true;
    if asked.is_json {
        asked.client.connections(&query, &mut |connection| {
            is_empty = false;
            serde_json::to_writer(&mut out, &connection)?;
            out.write_all(b"\n")
        })?;
    } else {
        asked.client.connections(&query, &mut |connection| {
            if std::mem::take(&mut is_empty) {
                out.write_all(title().as_bytes())?;
            }
            out.write_all(line(&connection).as_bytes())
        })?;
    }
    if is_empty {
        is_there(asked, wanted)?;
        if !asked.is_json {
            out.write_all(title().as_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// What is meant by an address of IPv6 that seems to have a port behind it, without brackets: 2001:db8::1:80 is an address of its own.
fn meant(end: &str) -> Option<SocketAddr> {
    end.parse::<Ipv6Addr>().ok()?;
    let (address, port) = end.rsplit_once(':')?;
    // What was written without `::` in its midst is short of a group then.
    Some(SocketAddr::new(IpAddr::V6(address.parse().ok()?), port.parse().ok()?))
}

/// Whether there could be any: no connections of a virtual server that nobody knows, or at an address that was meant to be another, mean
/// a slip of the pen.
fn is_there(asked: &mut Asked, wanted: &Connections) -> Result<(), Problem> {
    for (option, end) in
        [("client", &wanted.client), ("address", &wanted.address), ("real-server", &wanted.real_server)]
    {
        if let Some(socket) = end.as_deref().and_then(meant) {
            let _ = writeln!(
                io::stderr(),
                "weirctl: --{option} {} is an address without a port; with port {} it is {socket}",
                end.as_deref().unwrap_or_default(),
                socket.port()
            );
        }
    }
    let Some(name) = &wanted.virtual_server else { return Ok(()) };
    let listing: Listing<'static> =
        asked.client.get(&format!("/api/v1/virtual_servers?name={}", encoded(name)))?;
    if listing.virtual_servers.is_empty() { Err(super::no_such(name)) } else { Ok(()) }
}

// Lines have to be written before the last is known, so columns are as wide as IPv4 may be.
fn title() -> String {
    format!(
        "{:<5}{:<13}{:>8}  {:<22}{:<22}{:<22}{}\n",
        "PROT", "STATE", "EXPIRES", "CLIENT", "ADDRESS", "REAL SERVER", "VIRTUAL SERVER"
    )
}

fn line(it: &Connection<'_>) -> String {
    let client = SocketAddr::new(it.client, it.client_port).to_string();
    let address = match it.address {
        Some(address) => SocketAddr::new(address, it.port).to_string(),
        None => format!("*:{}", it.port),
    };
    let real_server = SocketAddr::new(it.real_server, it.real_server_port).to_string();
    format!(
        "{:<5}{:<13}{:>6} s  {client:<22}{address:<22}{real_server:<22}{}\n",
        it.protocol, it.state, it.expires, it.virtual_server
    )
}

/// How many there are, by protocol and state.
#[derive(Default)]
struct Counts(BTreeMap<(String, String), u64>);

impl Counts {
    fn add(&mut self, it: &Connection<'_>) {
        let key = (it.protocol.to_string(), it.state.to_string());
        *self.0.entry(key).or_default() += 1;
    }

    fn text(&self, screen: &Screen) -> String {
        let mut table =
            Table::new(vec![Column::left("PROT"), Column::left("STATE"), Column::right("CONNECTIONS")]);
        for ((protocol, state), count) in &self.0 {
            table.plain(vec![protocol.clone(), state.clone(), count.to_string()]);
        }
        let total: u64 = self.0.values().sum();
        table.plain(vec!["all".to_owned(), String::new(), total.to_string()]);
        table.render(screen)
    }

    fn json(&self) -> String {
        let counts: Vec<_> = self
            .0
            .iter()
            .map(|((protocol, state), count)| {
                serde_json::json!({"protocol": protocol, "state": state, "connections": count})
            })
            .collect();
        format!("{}\n", serde_json::json!({ "counts": counts }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_connection_is_a_line_and_states_are_counted() {
        let mut connection = Connection {
            worker: 0,
            protocol: "tcp".into(),
            client: Ipv4Addr::new(198, 51, 100, 7).into(),
            client_port: 51_514,
            virtual_server: "web".into(),
            address: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            port: 80,
            real_server: Ipv4Addr::new(10, 0, 0, 11).into(),
            real_server_port: 8_080,
            state: "ESTABLISHED".into(),
            expires: 899,
            persistent: false,
            persistence_engine: None,
            persistence_data: None,
        };
        let both = title() + &line(&connection);
        assert_eq!(
            both,
            "PROT STATE         EXPIRES  CLIENT                ADDRESS               REAL SERVER           VIRTUAL SERVER\n\
             tcp  ESTABLISHED     899 s  198.51.100.7:51514    192.0.2.1:80          10.0.0.11:8080        web\n"
        );
        let mut counts = Counts::default();
        counts.add(&connection);
        connection.state = "CLOSE".into();
        counts.add(&connection);
        let shown = counts.text(&Screen::plain(None));
        assert_eq!(
            shown,
            "PROT  STATE        CONNECTIONS\ntcp   CLOSE                  1\ntcp   ESTABLISHED            1\n\
             all                          2\n"
        );
    }

    #[test]
    fn a_port_behind_an_address_without_brackets_is_noticed() {
        let meant = |end| meant(end).map(|socket| socket.to_string());
        assert_eq!(meant("2001:db8::1:80").as_deref(), Some("[2001:db8::1]:80"));
        for other in ["[2001:db8::1]:80", "2001:db8::80", "2001:db8::1:8f", "192.0.2.1:80", "::1"] {
            assert_eq!(meant(other), None, "{other}");
        }
    }
}
