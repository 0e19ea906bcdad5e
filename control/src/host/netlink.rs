//! What the kernel is told about a host interface: MAC, MTU, state, addresses. The connected routes follow from these.

use std::io::ErrorKind;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use tracing::{debug, info, warn};
use weir_config::model::MacAddress;

use crate::netlink::{Netlink, said};

/// Says of an address that weir has given it (IFA_PROTO), for the next process. Below are the kernel's own; kernels before 5.18 forget it.
const BY_WEIR: AddressProtocol = AddressProtocol::Other(0x77);

impl Netlink {
    /// Gives an interface its MAC and MTU and sets it up; returns its index.
    pub(super) fn set_up(&self, name: &str, mac: MacAddress, mtu: u16) -> Result<u32> {
        let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))
            .with_context(|| format!("/sys/class/net/{name}"))?;
        let index: u32 = index.trim().parse().context("no number")?;
        let link = LinkUnspec::new_with_index(index).address(mac.0.to_vec()).mtu(u32::from(mtu)).up().build();
        self.runtime.block_on(self.handle.link().set(link).execute()).map_err(said).with_context(|| {
            format!("host interface {name}: MAC {}, MTU {mtu}, up", dpdk::MacAddress(mac.0))
        })?;
        Ok(index)
    }

    /// Whether the interface has a wire.
    pub(super) fn set_carrier(&self, index: u32, is_on: bool) -> Result<()> {
        let link = LinkUnspec::new_with_index(index).carrier(is_on).build();
        Ok(self.runtime.block_on(self.handle.link().set(link).execute()).map_err(said)?)
    }

    /// An interface of the process before goes on: it has its wire again, and of the addresses that weir gave it those that are wanted.
    pub(super) fn go_on(&self, name: &str, index: u32, wanted: &[IpNet]) {
        if let Err(problem) = self.set_carrier(index, true) {
            debug!(interface = name, "the kernel is not told about the link: {problem:#}");
        }
        let given = match self.given(index) {
            Ok(given) => given,
            Err(problem) => {
                return warn!(interface = name, "addresses of a former file may have stayed: {problem}");
            }
        };
        for net in given.into_iter().filter(|net| !wanted.contains(net)) {
            match self.remove(index, net) {
                Ok(()) => info!(interface = name, "address {net} removed: the file has it no more"),
                Err(problem) => warn!(interface = name, "{problem:#}"),
            }
        }
    }

    /// The addresses that weir has given an interface.
    fn given(&self, index: u32) -> std::io::Result<Vec<IpNet>> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let all: Vec<AddressMessage> = self.runtime.block_on(request.try_collect()).map_err(said)?;
        let by_weir = |it: &&AddressMessage| it.attributes.contains(&AddressAttribute::Protocol(BY_WEIR));
        Ok(all.iter().filter(by_weir).filter_map(net_of).collect())
    }

    /// Gives an interface an address, which it may have already.
    pub(super) fn add(&self, name: &str, index: u32, net: IpNet) -> Result<()> {
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len()).replace();
        request.message_mut().attributes.push(AddressAttribute::Protocol(BY_WEIR));
        self.runtime
            .block_on(request.execute())
            .map_err(said)
            .with_context(|| format!("address {net} is not added{}", why_not(name, net)))
    }

    /// Gives an interface an address; `false`: it has it already.
    pub(super) fn add_new(&self, name: &str, index: u32, net: IpNet) -> Result<bool> {
        let mut request = self.handle.address().add(index, net.addr(), net.prefix_len());
        request.message_mut().attributes.push(AddressAttribute::Protocol(BY_WEIR));
        match self.runtime.block_on(request.execute()).map_err(said) {
            Ok(()) => Ok(true),
            Err(problem) if problem.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(problem) => {
                Err(problem).with_context(|| format!("address {net} is not added{}", why_not(name, net)))
            }
        }
    }

    /// Takes an address from an interface.
    pub(super) fn remove(&self, index: u32, net: IpNet) -> Result<()> {
        let message = self.handle.address().add(index, net.addr(), net.prefix_len()).message_mut().clone();
        self.runtime
            .block_on(self.handle.address().del(message).execute())
            .map_err(said)
            .with_context(|| format!("address {net} is not removed"))
    }
}

/// The address that a message is about.
fn net_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|it| match it {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let remote = message.attributes.iter().find_map(|it| match it {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(remote)?, message.header.prefix_len).ok()
}

/// What the kernel's answer does not say: it calls IPv6 being off a lack of permission.
fn why_not(name: &str, net: IpNet) -> String {
    let says =
        |switch: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{switch}/disable_ipv6"));
    let is_on = |switch: &str| says(switch).is_ok_and(|value| value.trim() == "0");
    match net {
        IpNet::V6(_) if !is_on("all") || !is_on("default") => {
            ": the kernel's IPv6 is off here (set net.ipv6.conf.all.disable_ipv6 and net.ipv6.conf.default.disable_ipv6 to \
             0, or remove the address from the port)"
                .to_owned()
        }
        IpNet::V6(_) if !is_on(name) => format!(
            ": the kernel's IPv6 is off on this interface (set net.ipv6.conf.{name}.disable_ipv6 to 0, or remove the address \
             from the port)"
        ),
        IpNet::V4(_) | IpNet::V6(_) => String::new(),
    }
}
