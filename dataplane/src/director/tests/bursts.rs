//! Bursts to several virtual servers: what is looked at together and what goes a short way ends as anything else.

use super::*;

const IPIP: u8 = 4;
const FLAGS: [u8; 8] = [SYN, SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK];

/// Six virtual servers on ports of one address, of several kinds, and `extra`.
fn several(method: &str, extra: &str) -> Config {
    let mut text = "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n"
        .to_owned();
    let kinds = [
        "scheduler = \"rr\"",
        "scheduler = \"wlc\"",
        "scheduler = \"wrr\"\npersistence_timeout = 300",
        "scheduler = \"sh\"",
        "scheduler = \"twos\"",
        "scheduler = \"lc\"",
    ];
    for (n, kind) in kinds.iter().enumerate() {
        text += &format!(
            "[[virtual_server]]\nname = \"s{n}\"\naddress = \"10.0.0.100\"\nport = {}\n{kind}\nforwarding = \"{method}\"\n",
            80 + n
        );
        // The last one has none that takes anything.
        for octet in 11..14 {
            let port = if method == "nat" { 8080 } else { 80 + n };
            let weight = if n == 5 { 0 } else { octet - 10 };
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.0.{octet}\"\nport = {port}\nweight = {weight}\n\
                 upper_threshold = {}\n",
                if octet == 12 { 9 } else { 0 }
            );
        }
    }
    text += extra;
    // One real server's MAC has to be asked for.
    text += "[[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
             [[neighbor]]\naddress = \"10.0.0.12\"\nmac = \"02:00:00:00:00:0c\"\n";
    weir_config::parse("test", &text).expect("a valid file").config
}

fn process(lab: &mut Lab, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut burst = Burst::new();
    frames.iter().for_each(|frame| burst.push(HeapFrame::new(frame)));
    lab.directors[0].process(&mut burst, 0, &lab.snapshot, lab.now, &mut lab.wire);
    let mut sent: Vec<_> = lab.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec()).collect();
    // Usual packets pass others, and get the identification of a tunnel's header before them.
    for frame in sent.iter_mut().filter(|frame| frame[23] == IPIP) {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    sent.sort();
    sent
}

/// No burst has two packets of one connection: those may pass one another.
fn frames(burst: &[(u8, u8, u8)], method: &str) -> Vec<Vec<u8>> {
    let of = |(place, &(detail, whom, ttl)): (usize, &(u8, u8, u8))| {
        let client_port =
            if detail == 77 { 20 } else { 1_000 + place as u16 * 4 + u16::from(detail / 7 % 4) };
        let segment = FLAGS[usize::from(detail) % FLAGS.len()];
        let port = 80 + u16::from(whom) % 8;
        let source = if whom == 99 { VIP } else { CLIENT };
        let mut bytes = match whom {
            200.. if method == "nat" => from_server(11 + whom % 3, client_port, segment),
            _ => frame(OWN, (source, client_port), (VIP, port), segment),
        };
        bytes[22] = ttl % 4;
        let header = Ipv4::mut_from_bytes(&mut bytes[14..34]).expect("20 bytes");
        header.refresh_checksum();
        bytes.resize(54 + usize::from(detail) % 12, 0);
        bytes
    };
    burst.iter().take(64).enumerate().map(of).collect()
}

#[test]
fn bursts_to_several_virtual_servers_end_the_same_on_the_short_and_the_common_way() {
    let all_ports = "[[virtual_server]]\nname = \"all\"\naddress = \"10.0.0.101\"\nport = 0\nforwarding = \"nat\"\npersistence_timeout = 300\n\
                     [[virtual_server.real_server]]\naddress = \"10.0.0.15\"\nport = 0\n";
    let configs = [("dr", ""), ("tun", ""), ("nat", ""), ("nat", all_ports)]
        .map(|(method, extra)| (method, several(method, extra)));
    bolero::check!().with_type::<(u8, Vec<(u8, Vec<(u8, u8, u8)>)>)>().for_each(|(kind, history)| {
        let (method, config) = &configs[usize::from(*kind) % configs.len()];
        let mut labs = [Lab::new(config, 1), Lab::new(config, 1)];
        labs[1].directors[0].no_express = true;
        for (pause, burst) in history.iter().take(8) {
            let frames = frames(burst, method);
            let sent = labs.each_mut().map(|lab| {
                lab.pass_millis(u64::from(pause % 3) * 500);
                process(lab, &frames)
            });
            assert_eq!(sent[0], sent[1]);
        }
        let left = labs.each_ref().map(|lab| {
            let tallies: Vec<_> = lab
                .snapshot
                .servers()
                .map(|server| (server.live.traffic(), server.live.openings(), server.is_overloaded()))
                .collect();
            let mut records: Vec<_> =
                lab.directors[0].table.iter().map(|record| format!("{record:?}")).collect();
            records.sort();
            let drops: Vec<_> = DropReason::ALL.iter().map(|&reason| lab.dropped(reason)).collect();
            (records, tallies, drops, lab.counters[0].forwarded.get())
        });
        assert_eq!(left[0], left[1]);
        labs[0].assert_counts_equal_a_recount();
    });
}
