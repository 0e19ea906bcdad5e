//! Which traffic a virtual server serves: packets to an address, port and protocol, or those with a mark.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::fault::Fault;
use super::table::{Table, word};
use super::values;
use crate::model::{Family, Identity, Protocol};
use crate::report::Problem;
use crate::schema::{self, Field, Integer, Span};

pub(crate) const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// What a virtual server serves, as far as it could be read.
pub(crate) struct Traffic {
    /// It serves a mark, readable or not.
    pub(crate) is_mark: bool,
    pub(crate) mark: Option<Spanned<u32>>,
    /// `None`: could not be read.
    pub(crate) family: Option<Family>,
    /// With a mark absent.
    pub(crate) address: Option<Spanned<IpAddr>>,
    /// With a mark 0.
    pub(crate) port: Option<Spanned<u16>>,
    pub(crate) protocol: Spanned<Protocol>,
}

impl Traffic {
    pub(crate) fn of_address(written: &schema::VirtualServer, table: &mut Table<'_>) -> Self {
        let schema::VirtualServer { address, port, protocol, family, .. } = written;
        let address = table.required_parsed(address, "address", "address = \"10.0.0.100\"", vip_address);
        let port = match range_for_port(port) {
            Some(problem) => {
                table.report(problem);
                None
            }
            None => table.required_integer::<u16>(port, "port", 0..=65_535, "port = 80"),
        };
        let protocol = table.word(protocol, "protocol", &PROTOCOLS, &[]);
        if let Some(family) = table.parsed(family, family_word) {
            let problem = Problem::error("`family` without `mark`")
                .at(family.span(), "the address says which family it is")
                .help("remove the line");
            table.report(problem);
        }
        let family = address.as_ref().map(|address| Family::of(*address.get_ref()));
        Self {
            is_mark: false,
            mark: None,
            family,
            address,
            port,
            protocol: table.or(protocol, Protocol::Tcp),
        }
    }

    pub(crate) fn of_mark(written: &schema::VirtualServer, table: &mut Table<'_>) -> Self {
        let mark = table.integer::<u32>(&written.mark, "mark", 1..=i64::from(u32::MAX), 0);
        let others = [
            ("address", written.address.as_deref().map(Spanned::span)),
            ("port", written.port.as_deref().map(Spanned::span)),
            ("protocol", written.protocol.as_deref().map(Spanned::span)),
        ];
        for (key, span) in others {
            let Some(span) = span else { continue };
            let problem = Problem::error(format!("`{key}` beside `mark`"))
                .at(span, "[[mark]] says which traffic has the mark")
                .related(written.mark.as_deref().map_or(table.at.clone(), Spanned::span), "it serves a mark")
                .help("remove the line, or remove `mark`");
            table.report(problem);
        }
        let family = match &written.family {
            Some(_) => table.parsed(&written.family, family_word).map(Spanned::into_inner),
            None => Some(Family::V4),
        };
        Self {
            is_mark: true,
            mark: Some(mark).filter(|mark| *mark.get_ref() > 0),
            family,
            address: None,
            port: Some(table.or(None, 0)),
            protocol: table.or(None, Protocol::Tcp),
        }
    }

    /// Mark, address and port of the model.
    pub(crate) fn read(&self) -> Option<(Option<u32>, IpAddr, u16)> {
        if self.is_mark {
            return Some((Some(*self.mark.as_ref()?.get_ref()), self.family?.unspecified(), 0));
        }
        Some((None, *self.address.as_ref()?.get_ref(), *self.port.as_ref()?.get_ref()))
    }

    /// Reports another virtual server of the same traffic.
    pub(crate) fn is_unique(&self, identities: &mut HashMap<Identity, Span>, table: &mut Table<'_>) {
        let protocol = *self.protocol.get_ref();
        let (identity, at, service, change) = match (&self.mark, &self.address, &self.port, self.family) {
            (Some(mark), _, _, Some(family)) => {
                let identity = Identity::Mark { mark: *mark.get_ref(), family };
                let ip = values::family(family.unspecified());
                let service = format!("the mark {} of {ip} traffic", mark.get_ref());
                (identity, mark.span(), service, "the mark")
            }
            (None, Some(address), Some(port), _) => {
                let (at, address, port) = (address.span(), *address.get_ref(), *port.get_ref());
                let service = format!("{address} port {port} {}", protocol.name());
                let identity = Identity::Address { address, port, protocol };
                (identity, at, service, "address, port or protocol")
            }
            _ => return,
        };
        match identities.entry(identity) {
            Entry::Vacant(free) => {
                free.insert(at);
            }
            Entry::Occupied(first) => {
                let problem = Problem::error("duplicate virtual server")
                    .at(at, format!("{service} is served already"))
                    .related(first.get().clone(), "by this virtual server")
                    .help(format!("put the real servers of both into one, or change {change}"));
                table.report(problem);
            }
        }
    }
}

fn family_word(text: &str) -> Result<Family, Fault> {
    let words = [Family::V4, Family::V6].map(|family| (family.name(), family));
    word("address family", &words, &[("inet", "ipv4"), ("inet6", "ipv6")], text)
}

/// The VIP: one address.
fn vip_address(text: &str) -> Result<IpAddr, Fault> {
    match text.parse::<IpNet>() {
        Ok(net) if net.prefix_len() < net.max_prefix_len() => {
            Err(Fault::new("invalid address", "a virtual server has one address").help(format!(
                "assign the network a mark, [[mark]] with addresses = [\"{}\"], and write `mark` here",
                net.trunc()
            )))
        }
        _ => values::routable_host(text),
    }
}

/// Somebody wrote a range of ports, "8000-8999", for the port.
fn range_for_port(field: &Field<Integer>) -> Option<Problem> {
    let field = field.as_ref()?;
    let complaint = field.get_ref().0.as_ref().err()?;
    let written = complaint.strip_prefix("invalid type: string \"")?.split_once('"')?.0;
    let (first, last) = written.split_once(['-', ':'])?;
    first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok())?;
    let problem = Problem::error("a range of ports").at(field.span(), "a virtual server has one port");
    Some(problem.help(format!(
        "assign the range a mark, [[mark]] with ports = [\"{first}-{last}\"], and write `mark` here"
    )))
}
