//! Linux: a tap as the routes' device, and netlink.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use dpdk::Tap;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};
use tokio::time::timeout;
use tracing::debug;

use super::table::{Kernel, Place};
use crate::netlink::{Netlink, said};
use crate::threads::Pulse;

/// How long an answer of the kernel's is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// The interface is up (linux/if.h).
const IFF_UP: u32 = 0x1;
/// There is no such process: netlink's word for a route that is not there (errno-base.h).
const ESRCH: i32 = 3;

/// See the module. Each answer may wait for others who change interfaces or routes.
pub(super) struct Linux<'a> {
    netlink: &'a Netlink,
    pulse: &'a Pulse,
}

/// What routes lead to. Nobody reads what is sent there: it is the host's own, and is not delivered.
pub(super) struct Device {
    name: String,
    /// The kernel's number for it.
    index: u32,
    /// The device is there for as long as this is.
    _tap: Tap,
}

impl<'a> Linux<'a> {
    /// Of a thread that goes on.
    pub(super) fn new(netlink: &'a Netlink, pulse: &'a Pulse) -> Self {
        Self { netlink, pulse }
    }

    fn ask(&self, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> io::Result<()> {
        self.pulse.beat();
        let answer = self.netlink.runtime.block_on(async { timeout(ANSWER, request).await });
        answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(said)
    }

    fn set_up(&self, index: u32) -> io::Result<()> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.ask(self.netlink.handle.link().set(up).execute())
    }
}

impl Kernel for Linux<'_> {
    type Device = Device;

    fn make(&self, name: &str) -> Result<Device, String> {
        let tap = Tap::create(name).map_err(|problem| problem.to_string())?;
        let index =
            index_of(name).ok_or_else(|| format!("/sys/class/net/{name} does not show the interface"))?;
        // It has no addresses, and says nothing by itself.
        let quiet = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]);
        let quiet = LinkUnspec::new_with_index(index).append_extra_attribute(quiet).build();
        if let Err(problem) = self.ask(self.netlink.handle.link().set(quiet).execute()) {
            debug!(interface = name, "it gets a link-local address: {problem}");
        }
        // Where hosts are without IPv6 by default, routes of it need not be.
        let switch = ipv6_switch(name);
        if is_off(&switch)
            && let Err(problem) = fs::write(&switch, "0")
        {
            debug!(interface = name, "{switch}: {problem}");
        }
        self.set_up(index).map_err(|problem| format!("the interface {name} is not set up: {problem}"))?;
        Ok(Device { name: name.to_owned(), index, _tap: tap })
    }

    fn look_after(&self, device: &Device) -> bool {
        if index_of(&device.name) != Some(device.index) {
            return false;
        }
        let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", device.name));
        let flags =
            flags.ok().and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
        if flags.is_some_and(|flags| flags & IFF_UP == 0)
            && let Err(problem) = self.set_up(device.index)
        {
            debug!(interface = device.name, "not set up: {problem}");
        }
        true
    }

    fn add(&self, device: &Device, place: Place, protocol: u8) -> io::Result<()> {
        let done = self.ask(self.netlink.handle.route().add(message(device, place, protocol)).execute());
        done.map_err(|problem| match problem.kind() {
            // It calls IPv6 being off a lack of permission.
            io::ErrorKind::PermissionDenied
                if place.net.addr().is_ipv6() && is_off(&ipv6_switch(&device.name)) =>
            {
                io::Error::other(format!(
                    "the kernel's IPv6 is off on {0}: set net.ipv6.conf.{0}.disable_ipv6 to 0, or \
                     net.ipv6.conf.default.disable_ipv6 before weir starts",
                    device.name
                ))
            }
            _ => problem,
        })
    }

    fn remove(&self, device: &Device, place: Place, protocol: u8) -> io::Result<()> {
        let done = self.ask(self.netlink.handle.route().del(message(device, place, protocol)).execute());
        done.map_err(|problem| match problem.raw_os_error() {
            Some(ESRCH) => io::Error::from(io::ErrorKind::NotFound),
            _ => problem,
        })
    }
}

/// The kernel removes a route only if all of it is as said.
fn message(device: &Device, place: Place, protocol: u8) -> RouteMessage {
    let Place { net, table, metric } = place;
    let route = RouteMessageBuilder::<IpAddr>::new();
    // Both are as `ip route add NET dev DEVICE` makes them; other scopes than this one IPv6 does not have.
    let scope = if net.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    // The builder refuses prefixes that are too long alone.
    let route = match route.clone().destination_prefix(net.addr(), net.prefix_len()) {
        Ok(route) => route,
        Err(_) => route,
    };
    route
        .output_interface(device.index)
        .priority(metric)
        .table_id(table)
        .protocol(RouteProtocol::from(protocol))
        .scope(scope)
        .build()
}

fn ipv6_switch(name: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
}

fn is_off(switch: &str) -> bool {
    fs::read_to_string(switch).is_ok_and(|value| value.trim() != "0")
}

fn index_of(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}
