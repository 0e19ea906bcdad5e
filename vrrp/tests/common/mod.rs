//! What several tests need.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use weir_vrrp::auth::Authentication;
use weir_vrrp::machine::{Cause, State};
use weir_vrrp::packet::{ChecksumForm, Version};
use weir_vrrp::router::{Output, Router, Setup};
use weir_vrrp::settings::{Announce, Settings, virtual_mac};
use weir_vrrp::time::Micros;
use weir_vrrp::track::{Reading, Tracked};

/// Bytes of hexadecimal digits, spaces aside.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// VRID 51 on port 0 with one address, sent from 192.168.200.`host`.
pub fn settings4(name: &str, host: u8, priority: u8) -> Settings {
    Settings {
        name: name.to_owned(),
        port: 0,
        virtual_router_id: 51,
        version: Version::V2,
        priority,
        interval: Duration::from_secs(1),
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 168, 200, 17))],
        excluded: 0,
        unicast_peers: Vec::new(),
        ttl_min: 0,
        ttl_max: 255,
        authentication: Authentication::None,
        trailers: None,
        first_sequence: 0,
        checksum: ChecksumForm::PseudoHeader,
        source: IpAddr::V4(Ipv4Addr::new(192, 168, 200, host)),
        mac: virtual_mac(false, 51),
        announce: Announce::default(),
        group: None,
    }
}

/// Everything tracked is up.
pub fn all_up(_: &Tracked) -> Reading {
    Reading::Up
}

/// A router with these instances, started at 0.
pub fn started(settings: impl IntoIterator<Item = Settings>) -> (Router, Vec<Output>) {
    let setups = settings.into_iter().map(|settings| Setup { settings, trackers: Vec::new() }).collect();
    let (mut router, mut out) = (Router::new(), Vec::new());
    router.configure(setups, &mut all_up, Micros(0), &mut out);
    (router, out)
}

/// The advertisements in `out`.
pub fn advertisements(out: &[Output]) -> Vec<Vec<u8>> {
    let frame = |output: &Output| match output {
        Output::Advertise { frame, .. } => Some(frame.clone()),
        _ => None,
    };
    out.iter().filter_map(frame).collect()
}

/// The states that instances changed to, with the causes.
pub fn transitions(out: &[Output]) -> Vec<(&str, State, Cause)> {
    let transition = |output| match output {
        &Output::Transition { ref instance, to, cause, .. } => Some((instance.as_str(), to, cause)),
        _ => None,
    };
    out.iter().filter_map(transition).collect()
}
