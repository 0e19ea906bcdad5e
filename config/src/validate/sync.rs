//! `[sync]`: who else knows of connections.

use std::net::{IpAddr, Ipv4Addr};

use toml::Spanned;

use super::fault::Fault;
use super::table::{Table, word};
use super::values;
use crate::model::{Sync, SyncKernel};
use crate::schema::{self, OneTable, Tabular};

/// As the kernel has it.
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const PORT: u16 = 8_848;

pub(crate) fn sync(field: &OneTable<schema::Sync>, table: &mut Table<'_>) -> Option<Sync> {
    let (Tabular(written), at) = table.value(field)?;
    let mut table = table.inner(at);
    let schema::Sync { kernel, interface, id, group, port } = written;
    let words = [("receive", SyncKernel::Receive)];
    let synonyms = [("backup", "receive"), ("slave", "receive"), ("receiver", "receive")];
    let kernel =
        table.required_parsed(kernel, "kernel", "\"receive\"", |text| word("way", &words, &synonyms, text));
    let interface = table.required_parsed(interface, "interface", "\"eth1\"", values::interface);
    let id = table.integer::<u8>(id, "id", 0..=255, 0).into_inner();
    let group = table.parsed(group, multicast);
    let group = table.or(group, GROUP).into_inner();
    let port = table.integer::<u16>(port, "port", 1..=65_535, PORT).into_inner();
    Some(Sync {
        kernel: kernel?.into_inner(),
        interface: interface.map(Spanned::into_inner)?,
        id,
        group,
        port,
    })
}

fn multicast(text: &str) -> Result<IpAddr, Fault> {
    let address = values::address(text)?;
    match address.is_multicast() {
        true => Ok(address),
        false => Err(Fault::new("not a multicast group", "one host's address")
            .help("write a group: 224.0.0.81 is the kernel's, ff02::81 with IPv6")),
    }
}
