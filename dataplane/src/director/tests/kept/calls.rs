//! Calls of SIP through an end of the process.

use super::*;
use crate::director::tests::calls;

#[test]
fn calls_return_to_their_servers_and_mean_nothing_with_another_file() {
    let shape = Shape::of(1);
    let mut config = calls::file("dr", "one_packet = true\npersistence_netmask = 0\n");
    config.connections.capacity = shape.capacity as u32;
    let mut process = Process::start(&config, shape, None, Now::default());
    let asked: Vec<(bool, String)> = [false, true]
        .into_iter()
        .flat_map(|is_v6| (0..20).map(move |call| (is_v6, format!("{call}@x"))))
        .collect();
    let ask = |process: &mut Process, client| -> Vec<Option<u8>> {
        asked.iter().map(|(is_v6, call)| process.lab.call(*is_v6, (client, 5_060), call)).collect()
    };
    let servers = ask(&mut process, 1);
    assert!(servers.iter().all(Option::is_some));
    let (files, now) = process.end();
    let mut process = Process::start(&config, shape, Some(files), now);
    process.take_over_all();
    assert_eq!(process.lab.calls(), asked.len());
    assert_eq!(ask(&mut process, 2), servers);
    for server in &mut config.virtual_servers {
        server.persistence.as_mut().expect("persistence").engine = None;
    }
    let (files, now) = process.end();
    let mut process = Process::start(&config, shape, Some(files), now);
    process.take_over_all();
    assert_eq!(process.lab.calls(), 0);
}
