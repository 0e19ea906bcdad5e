//! What other workers have to say, and next hops by the thousands.

use anyhow::Result;
use dpdk::Eal;
use weir_benches::frames::{CLIENT, VIP, tcp};
use weir_benches::lab::{base, virtual_server};
use weir_config::model::MacAddress;
use weir_dataplane::address::Addr4;
use weir_dataplane::conn::record::Record;
use weir_dataplane::conn::state::Direction;
use weir_dataplane::director::Message;
use weir_dataplane::neighbor::{ENTRIES_MAX, Hop};
use weir_dataplane::packet::BURST;
use weir_dataplane::wire::l4::flags::{ACK, FIN, SYN};

use crate::recorder::Recorder;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind};

const FLOWS: u64 = 1 << 20;
/// Messages that find room.
const INBOX: usize = 4_096;
/// The real server of the clients in the port's own network.
const SERVER: Addr4 = CLIENT.plus(3);

/// Replies of NAT connections that another worker got, each of which moves its connection along.
pub(super) fn messages(recorder: &mut Recorder, eal: Option<&Eal>, _: usize) -> Result<()> {
    let keys = "scheduler = \"wlc\"\nprotocol = \"tcp\"";
    let file = base(FLOWS as usize, "") + &virtual_server(80, keys, "nat", 16, true);
    let mut rig = Rig::new(recorder, eal, &file)?;
    rig.step("new connections of NAT");
    rig.send(Kind::First, (0..FLOWS).map(Flow::of_one));
    rig.check()?;
    // In an order that has nothing to do with where they lie.
    let mut records: Vec<Record> = rig.view.records().collect();
    let count = records.len();
    (0..count).for_each(|n| records.swap(n, n.wrapping_mul(0x9e37_79b1) % count));
    rig.step("an inbox full of replies that other workers got");
    let mut flow = 0;
    for (round, records) in records.chunks(INBOX).take(64).enumerate() {
        let segment = if round % 2 == 0 { SYN | ACK } else { FIN | ACK };
        records.iter().for_each(|&record| _ = rig.tell(Message::Passed(record, segment, Direction::Output)));
        while rig.is_told() {
            rig.send(Kind::Middle, (flow..flow + BURST as u64).map(|n| Flow::of_one(n * 7_919 % FLOWS)));
            flow += BURST as u64;
        }
    }
    // How many passes it takes is the same in each run: what a pass takes in is limited by number.
    rig.check()
}

/// Clients in the port's own network, so that each is a next hop.
pub(super) fn neighbours(recorder: &mut Recorder, eal: Option<&Eal>, _: usize) -> Result<()> {
    let file = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"100.64.0.2/10\"]\n\
         [[neighbor]]\naddress = \"100.64.0.3\"\nmac = \"02:00:00:00:00:03\"\n\
         [[virtual_server]]\nname = \"s\"\naddress = \"10.0.0.100\"\nport = 80\nforwarding = \"nat\"\n\
         [[virtual_server.real_server]]\naddress = \"100.64.0.3\"\nport = 8080\n";
    let mut rig = Rig::new(recorder, eal, file)?;
    let clients = ENTRIES_MAX as u64;
    rig.step("new connections of 65,536 clients");
    rig.send(Kind::First, (0..4 * clients).map(client));
    rig.check()?;
    rig.step("replies to 16,384 clients that do not answer ARP");
    replies(&mut rig, 0..clients);
    rig.check()?;
    rig.step("requests to them, again and in vain");
    for _ in 0..6_000 {
        rig.skip_millis(1);
        rig.pass_noted();
    }
    rig.check()?;
    rig.step("packets wait, and all 16,384 answer, 1,024 at once");
    for first in (0..clients).step_by(1_024) {
        replies(&mut rig, first..first + 1_024);
        for number in first..first + 1_024 {
            let hop = Hop::at(client(number).client, 0, 0);
            let mac = MacAddress([2, 0, 1, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
            // As many at a time as there is room for.
            while !rig.tell(Message::Learned(hop, mac)) {
                rig.pass_noted();
            }
        }
    }
    while rig.is_told() {
        rig.pass_noted();
    }
    rig.check()?;
    rig.step("49,152 others take their places");
    for first in (clients..4 * clients).step_by(1_024) {
        rig.skip_millis(100_000);
        replies(&mut rig, first..first + 1_024);
    }
    rig.check()
}

fn client(number: u64) -> Flow {
    Flow { client: SERVER.plus(1 + number as u32 * 61 % 0x3f_0000), client_port: 1_024, vip: VIP }
}

/// The real server's packets to these clients.
fn replies(rig: &mut Rig<'_>, clients: std::ops::Range<u64>) {
    let clients: Vec<u64> = clients.collect();
    for clients in clients.chunks(BURST) {
        for &number in clients {
            let Flow { client, client_port, .. } = client(number);
            rig.load(&tcp((SERVER, 8_080), (client, client_port), SYN | ACK));
        }
        rig.pass_noted();
    }
}
