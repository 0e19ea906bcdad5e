//! Finding and setting up devices of several drivers.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use common::{pool, receive, start};
use dpdk::{Eal, Mempool, MtuLimit, Port, PortConfig, PortError, RssConfig, Shortcoming};

/// One test, because devices are taken once and gone after; its parts are the functions below.
#[test]
fn devices_are_found_set_up_and_used_with_what_they_can_do() {
    let input = std::env::temp_dir().join(format!("weir-dpdk-ports-{}.pcap", std::process::id()));
    let output = input.with_extension("out.pcap");
    std::fs::write(&input, capture(&[&[0xaa; 60], &[0xbb; 1514], &[0xcc; 3000]])).unwrap();
    let pcap = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let devices = ["net_null0", "net_null1,size=100", "net_ring0", &pcap, "net_memif0"];
    let options: Vec<_> =
        ["-l", "0"].into_iter().chain(devices.into_iter().flat_map(|name| ["--vdev", name])).collect();
    let eal = start(&options);
    let pool = pool(&eal, "ports", 4095);

    missing_devices_are_told_with_the_names_there_are(&eal);
    a_device_describes_itself(&eal);
    a_device_is_taken_once(&eal, &pool);
    a_port_without_a_pool_is_refused(&eal);
    what_a_device_lacks_is_said_and_not_fatal(&eal, &pool);
    captures_are_read_and_written(&eal, &pool, &output);
    assert_eq!(pool.in_use(), 0, "closed devices have given everything back");
    std::fs::remove_file(input).unwrap();
    std::fs::remove_file(output).unwrap();
}

fn missing_devices_are_told_with_the_names_there_are(eal: &Eal) {
    let error = Port::by_name(eal, "0000:99:00.0").unwrap_err();
    let names = ["net_null0", "net_null1", "net_ring0", "net_pcap0", "net_memif0"].map(String::from).to_vec();
    let text = error.to_string();
    assert_eq!(error, PortError::NoSuchDevice { device: "0000:99:00.0".into(), available: names.clone() });
    assert!(text.contains("0000:99:00.0") && text.contains(&names.join(", ")), "{text}");
}

fn a_device_describes_itself(eal: &Eal) {
    let names: Vec<_> = Port::all(eal).iter().map(|port| port.name().to_owned()).collect();
    assert_eq!(names, ["net_null0", "net_null1", "net_ring0", "net_pcap0", "net_memif0"]);
    let info = Port::by_name(eal, "net_null0").unwrap().info().unwrap();
    assert_eq!((info.name.as_str(), info.driver.as_str()), ("net_null0", "net_null"));
    assert_eq!(info.bus_name.as_deref(), Some("net_null0"));
    assert!(info.max_rx_queues >= 1 && info.max_tx_queues >= 1);
    assert!(info.min_mtu <= 1500 && info.max_mtu >= 1500);
}

fn a_device_is_taken_once(eal: &Eal, pool: &Mempool) {
    let (first, second) =
        (Port::by_name(eal, "net_null1").unwrap(), Port::by_name(eal, "net_null1").unwrap());
    let config = PortConfig { rx_descriptors: 256, ..PortConfig::default() };
    let mut port = first.configure(config, std::slice::from_ref(pool)).unwrap();
    let error = second.configure(PortConfig::default(), std::slice::from_ref(pool)).unwrap_err();
    assert_eq!(error, PortError::InUse("net_null1".into()));

    let (mut rx, _) = port.take_queues();
    let port = port.start().unwrap();
    let mut rx = rx.remove(0).start_polling();
    let burst = receive(&mut rx, 64);
    assert_eq!((burst.len(), burst[0].len(), burst[0].port()), (64, 100, port.id()));
}

fn a_port_without_a_pool_is_refused(eal: &Eal) {
    let error = Port::by_name(eal, "net_memif0").unwrap().configure(PortConfig::default(), &[]).unwrap_err();
    assert_eq!(error, PortError::NoMempool("net_memif0".into()));
}

fn what_a_device_lacks_is_said_and_not_fatal(eal: &Eal, pool: &Mempool) {
    let asked = [2, 0, 0, 0, 0, 1];
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 100,
        mtu: 9000,
        mac: Some(asked),
        rss: Some(RssConfig { key: Some(vec![0x6d, 0x5a]), ip: true, tcp: true, udp: false }),
        promiscuous: false,
        ..PortConfig::default()
    };
    let ring = Port::by_name(eal, "net_ring0").unwrap();
    let has = ring.info().unwrap();
    let port = ring.configure(config.clone(), std::slice::from_ref(pool)).unwrap();
    assert_eq!(port.mac().0, asked, "kept in software");
    let lacks = port.shortcomings();
    assert!(lacks.contains(&Shortcoming::TxQueues { asked: 100, got: has.max_tx_queues }), "{lacks:?}");
    assert!(lacks.contains(&Shortcoming::Rss), "{lacks:?}");
    assert!(lacks.iter().any(|lack| matches!(lack, Shortcoming::Mac { .. })), "{lacks:?}");
    let refused =
        |lack: &Shortcoming| matches!(lack, Shortcoming::Mtu { got: 9000, reason: MtuLimit::Refused(_), .. });
    assert!(lacks.iter().any(refused), "{lacks:?}");
    let sentences: Vec<_> = lacks.iter().map(ToString::to_string).collect();
    assert!(
        sentences.contains(&format!("it has {} transmit queues, not 100", has.max_tx_queues)),
        "{sentences:?}"
    );
    let port = port.start().unwrap();
    assert_eq!((port.mac().0, port.device_mac()), (asked, has.mac));
    assert!(port.is_promiscuous(), "the way to receive for an address the device does not filter on");
    assert_eq!(port.rss(), None);
    assert!(matches!(port.set_reta(&[0]), Err(PortError::Reta { errno, .. }) if errno.is_unsupported()));

    let null = Port::by_name(eal, "net_null0").unwrap();
    let has = null.info().unwrap();
    let port = null.configure(config, std::slice::from_ref(pool)).unwrap();
    let one_mbuf =
        |lack: &Shortcoming| matches!(lack, Shortcoming::Mtu { asked: 9000, reason: MtuLimit::MbufRoom, .. });
    assert!(port.shortcomings().iter().any(one_mbuf), "{:?}", port.shortcomings());
    assert_eq!(port.mtu() + 18, pool.data_bytes(), "a frame fits an mbuf where the device cannot scatter it");
    let port = port.start().unwrap();
    assert_eq!((port.mac().0, port.device_mac().0), (asked, asked));
    assert_eq!(port.filter().receive_for([2, 0, 0, 0, 0, 9]), Ok(true), "it filters on one address");
    // net_null keeps a key and kinds of its own, whatever it is given; its indirection table can be set.
    let rss = port.rss().unwrap();
    assert_eq!((rss.key.len(), rss.types.any(), rss.reta.len()), (40, true, usize::from(has.reta_size)));
    port.set_reta(&[1, 0, 0, 1]).unwrap();
    let table = port.rss().unwrap().reta;
    assert_eq!(table.len(), usize::from(has.reta_size));
    assert!(table.chunks(4).all(|entries| entries == [1, 0, 0, 1]), "{table:?}");
    assert!(port.set_reta(&[0, 1, 0]).is_err(), "three do not divide the table");
    assert!(port.set_reta(&[2]).is_err(), "there is no such queue");
}

fn captures_are_read_and_written(eal: &Eal, pool: &Mempool, output: &std::path::Path) {
    let pcap = Port::by_name(eal, "net_pcap0").unwrap();
    let mut port = pcap.configure(PortConfig::default(), std::slice::from_ref(pool)).unwrap();
    let (mut rx, mut tx) = port.take_queues();
    let _port = port.start().unwrap();
    let (mut rx, mut tx) = (rx.remove(0).start_polling(), tx.remove(0).start_polling());
    let mut burst = receive(&mut rx, 3);
    assert_eq!(burst.iter().map(|mbuf| mbuf.len()).collect::<Vec<_>>(), [60, 1514, 3000]);
    assert_eq!(burst.iter().map(|mbuf| mbuf.segments()).collect::<Vec<_>>(), [1, 1, 2]);
    let long = &mut burst[2];
    assert!(!long.append(1) && !long.truncate(3001), "a frame of several segments grows no longer");
    assert_eq!(long.bytes(), [0xcc; 2048]);
    let mut end = [0; 1000];
    assert!(long.copy_to(2000, &mut end) && end == [0xcc; 1000], "across both segments");
    assert!(!long.copy_to(2001, &mut end) && !long.copy_to(usize::MAX, &mut end), "beyond the end");
    assert!(long.truncate(2049));
    assert_eq!((long.len(), long.segments(), long.bytes().len()), (2049, 2, 2048));
    assert!(long.truncate(2048));
    assert_eq!((long.len(), long.segments()), (2048, 1), "the second segment is given back");
    assert!(long.truncate(60) && long.append(2));
    assert_eq!((long.len(), long.segments()), (62, 1));
    burst.truncate(2);
    assert_eq!(burst[1].bytes(), [0xbb; 1514]);
    assert!(burst[0].truncate(42) && burst[0].prepend(2));
    assert_eq!(tx.send(&mut burst), 2);
    drop((rx, tx, _port));
    // A file header, then two records of 16 octets and their frames.
    let written = std::fs::read(output).unwrap();
    assert_eq!(written.len(), 24 + 16 + 44 + 16 + 1514);
    assert_eq!(written[written.len() - 1514..], [0xbb; 1514]);
}

/// A capture file (pcap, microseconds, Ethernet) with these frames.
fn capture(frames: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_ne_bytes());
    file.extend([2u16, 4].map(u16::to_ne_bytes).concat());
    file.extend([0u32, 0, 65_535, 1].map(u32::to_ne_bytes).concat());
    for frame in frames {
        let len = frame.len() as u32;
        file.extend([1, 0, len, len].map(u32::to_ne_bytes).concat());
        file.extend(*frame);
    }
    file
}
