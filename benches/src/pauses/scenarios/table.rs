//! Tables that fill, are full, and whose connections all end at once.

use anyhow::Result;
use dpdk::Eal;
use weir_benches::lab::{base, base6, virtual_server, virtual_server6};
use weir_dataplane::packet::BURST;

use crate::recorder::Recorder;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind};

/// Longer than any connection lives, in milliseconds.
const LIFETIME_MS: u64 = 1_000_000;
const SERVERS: u16 = 16;

/// The large table of connections.
pub(super) fn table(recorder: &mut Recorder, eal: Option<&Eal>, connections: usize) -> Result<()> {
    let keys = "scheduler = \"wlc\"\nprotocol = \"tcp\"";
    let file = base(connections, "") + &virtual_server(80, keys, "dr", SERVERS, true);
    let mut rig = Rig::new(recorder, eal, &file)?;
    let all = connections as u64;
    rig.step("new connections, the table from empty to full");
    rig.send(Kind::First, (0..all).map(Flow::of_one));
    rig.check()?;
    rig.expect_forwarded(all)?;
    rig.step("packets of known ones, full");
    rig.send(Kind::Middle, (0..2_000_000).map(|n: u64| Flow::of_one(n.wrapping_mul(7_919) % all)));
    rig.check()?;
    rig.step("new ones, without a record");
    rig.send(Kind::First, (all..all + 1_000_000).map(Flow::of_one));
    rig.check()?;
    rig.step("all end at once, 64 new ones a pass meanwhile");
    all_end(&mut rig, Kind::First, Flow::of_one, all + 1_000_000);
    rig.check()
}

/// A table of connections of IPv6, and of their clients.
pub(super) fn ipv6(recorder: &mut Recorder, eal: Option<&Eal>, connections: usize) -> Result<()> {
    let connections = connections / 4;
    let file = base6(connections) + &virtual_server6("scheduler = \"wlc\"\nprotocol = \"tcp\"", "dr");
    let mut rig = Rig::new(recorder, eal, &file)?;
    let all = connections as u64;
    rig.step("new connections of IPv6, the tables from empty to full");
    rig.send(Kind::First6, (0..all).map(Flow::of_one));
    rig.check()?;
    rig.step("packets of known ones, full");
    rig.send(Kind::Middle6, (0..2_000_000).map(|n: u64| Flow::of_one(n.wrapping_mul(7_919) % all)));
    rig.check()?;
    rig.step("new ones, without a record");
    rig.send(Kind::First6, (all..all + 1_000_000).map(Flow::of_one));
    rig.check()?;
    rig.step("all end at once, 64 new ones a pass meanwhile");
    all_end(&mut rig, Kind::First6, Flow::of_one, all + 1_000_000);
    rig.check()
}

/// Four connections for each of many clients, which have a template each.
pub(super) fn persistence(recorder: &mut Recorder, eal: Option<&Eal>, connections: usize) -> Result<()> {
    let connections = connections / 4;
    let keys = "scheduler = \"wlc\"\nprotocol = \"tcp\"\npersistence_timeout = 300";
    let file = base(connections, "") + &virtual_server(80, keys, "dr", SERVERS, true);
    let mut rig = Rig::new(recorder, eal, &file)?;
    let all = connections as u64;
    rig.step("persistent connections, the tables from empty to full");
    rig.send(Kind::First, (0..all).map(Flow::of_client));
    rig.check()?;
    rig.step("all connections end at once, 64 new ones a pass meanwhile");
    let next = all_end(&mut rig, Kind::First, Flow::of_client, all);
    rig.check()?;
    rig.step("all templates end, 64 new connections a pass meanwhile");
    rig.skip_millis(LIFETIME_MS);
    rig.send(Kind::First, (next..next + all).map(Flow::of_client));
    rig.check()
}

/// Everything there is ends; flows from number `first` on come meanwhile. Returns the number of the next.
fn all_end(rig: &mut Rig<'_>, kind: Kind, flow: fn(u64) -> Flow, first: u64) -> u64 {
    rig.skip_millis(LIFETIME_MS);
    let untracked = rig.counters.untracked.get();
    let mut next = first;
    loop {
        rig.send(kind, (next..next + BURST as u64).map(flow));
        next += BURST as u64;
        let recorded = next - first - (rig.counters.untracked.get() - untracked);
        // The gauge of connections is as of the last millisecond.
        if rig.counters.connections.get() <= recorded && next - first > 1_000_000 {
            return next;
        }
    }
}
