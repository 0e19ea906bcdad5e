//! From the file to what the routers of [`weir_vrrp`] are told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::orders::Instances;
use weir_config::model::{
    Config, MacAddress, Port, Vrrp, VrrpAuthentication, VrrpHmac, VrrpHmacMode, VrrpTrack, VrrpTracked,
};
use weir_dataplane::snapshot::virtual_router::RouterKey;
use weir_vrrp::auth::{Authentication, password};
use weir_vrrp::packet::{ChecksumForm, Version};
use weir_vrrp::router::Setup;
use weir_vrrp::settings::{Announce, Settings, virtual_mac};
use weir_vrrp::track::{Effect, Tracked, Tracker};
use weir_vrrp::trailer::{Key, Mode, Trailers};

/// The numbers that authentication headers go on with, by instance. What is not there is 0.
pub(crate) type Numbers = HashMap<RouterKey, u32>;

/// The instances of a file with their programs; the rest is as for [`setups`].
pub(super) fn instances(config: &Config, macs: &[MacAddress], numbers: &Numbers) -> Instances {
    let hooks = config.vrrp.iter().map(|vrrp| (vrrp.name.clone(), vrrp.hooks.clone()));
    let group_hooks = config.vrrp_groups.iter().map(|group| (group.name.clone(), group.hooks.clone()));
    Instances {
        setups: setups(config, macs, numbers),
        hooks: hooks.collect(),
        group_hooks: group_hooks.collect(),
    }
}

/// The instances of a file; `macs` by port number, `numbers` for those that are new.
pub(crate) fn setups(config: &Config, macs: &[MacAddress], numbers: &Numbers) -> Vec<Setup> {
    let number = |vrrp: &Vrrp| numbers.get(&RouterKey::of(vrrp)).copied().unwrap_or(0);
    let setup = |vrrp: &Vrrp| setup(vrrp, &config.ports[vrrp.port], macs[vrrp.port], number(vrrp));
    config.vrrp.iter().map(setup).collect()
}

fn setup(vrrp: &Vrrp, port: &Port, mac: MacAddress, first_sequence: u32) -> Setup {
    let is_ipv6 = vrrp.addresses.first().is_some_and(IpAddr::is_ipv6);
    let garp = &vrrp.garp;
    let settings = Settings {
        name: vrrp.name.clone(),
        port: vrrp.port,
        virtual_router_id: vrrp.virtual_router_id,
        version: if vrrp.version == 2 { Version::V2 } else { Version::V3 },
        priority: vrrp.priority,
        interval: vrrp.advertisement_interval,
        preempt: vrrp.preempt,
        preempt_delay: vrrp.preempt_delay,
        startup_delay: vrrp.startup_delay,
        addresses: vrrp.addresses.clone(),
        excluded: vrrp.excluded,
        unicast_peers: vrrp.unicast_peers.clone(),
        ttl_min: vrrp.ttl_min,
        ttl_max: vrrp.ttl_max,
        authentication: authentication(vrrp),
        trailers: vrrp.auth_hmac.as_deref().map(trailers),
        first_sequence,
        checksum: if vrrp.v3_checksum_as_v2 { ChecksumForm::MessageOnly } else { ChecksumForm::PseudoHeader },
        source: vrrp.source_address.unwrap_or_else(|| source(vrrp, port, mac)),
        mac: if vrrp.virtual_mac { virtual_mac(is_ipv6, vrrp.virtual_router_id) } else { mac.0 },
        announce: Announce {
            repeat: garp.master_repeat,
            delay: garp.master_delay,
            refresh: garp.master_refresh,
            refresh_repeat: garp.master_refresh_repeat,
            lower_priority_repeat: garp.lower_prio_repeat,
            lower_priority_delay: garp.lower_prio_delay,
            interval: garp.interval,
        },
        group: vrrp.sync_group.clone(),
    };
    Setup { settings, trackers: trackers(vrrp).collect() }
}

/// What an instance tracks.
pub(super) fn trackers(vrrp: &Vrrp) -> impl Iterator<Item = Tracker> {
    let own_link = Tracker { what: Tracked::Port(vrrp.port), effect: Effect::Fault };
    // Clients whose packets come to a worker that is stuck would not be served.
    let workers = Tracker { what: Tracked::Workers, effect: Effect::Fault };
    std::iter::once(own_link).chain(vrrp.track.iter().map(tracker)).chain([workers])
}

/// How the routers of an instance know each other.
pub(crate) fn authentication(vrrp: &Vrrp) -> Authentication {
    match &vrrp.authentication {
        None => Authentication::None,
        Some(VrrpAuthentication::Pass(text)) => Authentication::Pass(password(text)),
        Some(VrrpAuthentication::Ah(text)) => Authentication::Ah(password(text)),
    }
}

/// What stands behind its advertisements.
fn trailers(hmac: &VrrpHmac) -> Trailers {
    Trailers {
        mode: match hmac.mode {
            VrrpHmacMode::ReceiveOnly => Mode::ReceiveOnly,
            VrrpHmacMode::Permissive => Mode::Permissive,
            VrrpHmacMode::Enforce => Mode::Enforce,
        },
        keys: hmac.keys.iter().map(|key| Key { id: key.id, secret: key.secret.clone() }).collect(),
        active: hmac.active_key,
        window: hmac.time_window,
    }
}

fn tracker(track: &VrrpTrack) -> Tracker {
    let what = match &track.what {
        VrrpTracked::Port(port) => Tracked::Port(*port),
        VrrpTracked::VirtualServer(name) => Tracked::VirtualServer(name.clone()),
        VrrpTracked::File(path) => Tracked::File(path.to_string_lossy().into_owned()),
        VrrpTracked::Script(script) => Tracked::Script(script.name.clone()),
        VrrpTracked::Process { name, quorum } => Tracked::Process(name.clone(), *quorum),
    };
    Tracker { what, effect: track.weight.map_or(Effect::Fault, Effect::Weight) }
}

/// Where advertisements come from: those to the group of IPv6 and to link-local peers from the port's link-local address, others
/// from the own address in the network of the peers or the virtual addresses, else the first, of IPv6 the first of a wider scope.
fn source(vrrp: &Vrrp, port: &Port, mac: MacAddress) -> IpAddr {
    let is_link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let towards = vrrp.unicast_peers.first().or(vrrp.addresses.first());
    let is_ipv6 = towards.is_some_and(IpAddr::is_ipv6);
    if is_ipv6 && vrrp.unicast_peers.first().is_none_or(|peer| is_link_local(*peer)) {
        let mut own = port.addresses.iter().map(|net| net.addr());
        return own.find(|own| is_link_local(*own)).unwrap_or_else(|| link_local(mac).into());
    }
    let fits = |own: IpAddr| own.is_ipv6() == is_ipv6 && !is_link_local(own);
    let own = || port.addresses.iter().filter(|net| fits(net.addr()));
    let near = own().find(|net| towards.is_some_and(|address| net.contains(address)));
    let none = || if is_ipv6 { link_local(mac).into() } else { IpAddr::from([0; 4]) };
    near.or_else(|| own().next()).map_or_else(none, |net| net.addr())
}

/// The address that a port gives itself (RFC 4291 appendix A).
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.1.0.2/24", "10.0.0.2/24", "2001:db8:1::2/64", "fe80::2/64", "2001:db8::2/64"]
[[vrrp]]
name = "v4"
port = "lan"
virtual_router_id = 51
addresses = ["10.0.0.100"]
[[vrrp]]
name = "v6"
port = "lan"
virtual_router_id = 51
addresses = ["fe80::5:1"]
virtual_mac = false
[[vrrp.track]]
file = "/run/drain"
weight = -2
"#;

    #[test]
    fn unicast_over_ipv6_comes_from_where_its_peers_look_for_it() {
        let source = |peers: &str| {
            let text = FILE.replace("virtual_mac = false", &format!("unicast_peers = [{peers}]"));
            let config = weir_config::parse("weir.toml", &text).unwrap().config;
            setups(&config, &[MacAddress([2, 0, 0, 0, 0, 1])], &Numbers::new())[1].settings.source.to_string()
        };
        assert_eq!(source(""), "fe80::2");
        assert_eq!(source("\"fe80::3\""), "fe80::2");
        assert_eq!(source("\"2001:db8::3\""), "2001:db8::2");
        assert_eq!(source("\"2001:db8:1::3\", \"2001:db8::3\""), "2001:db8:1::2");
    }

    #[test]
    fn sources_and_macs_follow_the_port() {
        let text = FILE.replace(", \"fe80::2/64\"", "");
        let config = weir_config::parse("weir.toml", &text).unwrap().config;
        let setups = setups(&config, &[MacAddress([2, 0, 0, 0, 0, 1])], &Numbers::new());
        let [v4, v6] = &setups[..] else { panic!("two instances") };
        assert_eq!(v4.settings.source, "10.0.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(v4.settings.mac, [0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(v6.settings.source, "fe80::ff:fe00:1".parse::<IpAddr>().unwrap());
        assert_eq!(v6.settings.mac, [2, 0, 0, 0, 0, 1]);
        let fault = |what| Tracker { what, effect: Effect::Fault };
        assert_eq!(v4.trackers, [fault(Tracked::Port(0)), fault(Tracked::Workers)]);
        let file = Tracker { what: Tracked::File("/run/drain".into()), effect: Effect::Weight(-2) };
        assert_eq!(v6.trackers[1], file);
    }
}
