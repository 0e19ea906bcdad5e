//! The short way, asked about frames that are not for it.

use weir_config::model::Protocol;

use super::*;
use crate::conn::record::{Key, Record, UsualKey, VipId};
use crate::conn::state::State;
use crate::director::Context;

/// `Director::process` asks it about every frame of a burst, those without a key as well.
#[test]
fn it_leaves_a_frame_without_a_key_alone_whatever_record_lies_where_it_looks() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    // The next hop is at hand from here on.
    assert_eq!(lab.server_of(1000, SYN), Some(11));
    assert_eq!(lab.server_of(1000, ACK), Some(11));
    let server = lab.directors[0].table.iter().next().expect("the connection").server();
    for state in 0..16 {
        let Lab { directors, snapshot, now, .. } = &mut lab;
        let director = &mut directors[0];
        // In the first line, with a key of zeros.
        let key = Key::new(Addr4::UNSPECIFIED, 0, VipId(0), 0, Protocol::Tcp, false);
        let record = Record::new(key, server, State(state), now.seconds, false);
        let slot = director.table.insert(0, record).expect("room for one more");
        let bytes = from_client(1000, ACK);
        let mut frame = HeapFrame::new(&bytes);
        let context = Context { snapshot, now: *now, port: 0 };
        assert!(director.express(context).request(&mut frame, UsualKey::NONE).is_none(), "state {state}");
        assert_eq!(frame.bytes(), bytes, "state {state}");
        let is_left = director.table.iter().any(|left| left == record);
        assert!(is_left, "state {state}: the record is as it was");
        director.table.remove(slot);
    }
}
