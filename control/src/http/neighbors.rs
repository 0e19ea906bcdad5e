//! `/api/v1/neighbors`: next hops and their MACs, as JSON. Each worker is asked for its own, through its desk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_api::neighbors::{Listing, Neighbor};
use weir_dataplane::desk::Order;
use weir_dataplane::neighbor::listing::{Row, Rows, listing};

use crate::sources::Sources;

/// How long workers have. A full table takes one that is not held up 64 ms.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what has come.
const PAUSE: Duration = Duration::from_millis(1);

/// A worker tells one asker at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The page.
pub(super) fn render(sources: &Sources) -> Result<Vec<u8>, String> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut asked = Vec::with_capacity(sources.workers.len());
    let mut silent_workers = Vec::new();
    for shared in &sources.workers {
        let (order, rows) = listing();
        match shared.desk.ask(Order::Neighbors(order)) {
            Ok(()) => asked.push((shared.worker, rows)),
            Err(_) => silent_workers.push(shared.worker),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut neighbors = Vec::new();
    for (worker, mut rows) in asked {
        let is_whole = collect(&mut rows, deadline, |row| neighbors.push(neighbor(sources, worker, &row)));
        if !is_whole {
            silent_workers.push(worker);
            // The memory is not taken from under a worker that may come back.
            std::mem::forget(rows);
        }
    }
    let listing = Listing { neighbors, silent_workers };
    serde_json::to_vec(&listing).map_err(|problem| problem.to_string())
}

/// Hands over what a worker tells. Returns whether that was all.
fn collect(rows: &mut Rows, deadline: Instant, mut each: impl FnMut(Row)) -> bool {
    loop {
        // Looked at first: what was told before the worker let go is there now.
        let may_come = rows.may_come();
        while let Some(row) = rows.pop() {
            each(row);
        }
        if !may_come {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

fn neighbor<'a>(sources: &'a Sources, worker: usize, row: &Row) -> Neighbor<'a> {
    let port = sources.ports.get(usize::from(row.port));
    let vlan = row.network;
    Neighbor {
        worker,
        port: port.map_or("", |port| port.name.as_str()).into(),
        vlan: (vlan != 0).then_some(vlan),
        address: row.address,
        mac: row.mac.map(|mac| dpdk::port::MacAddress(mac.0).to_string().into()),
        state: row.standing.name().into(),
        age_seconds: row.age_ms.map(|millis| millis as f64 / 1000.0),
        asked: row.asked,
        waiting: row.waiting,
        configured: row.is_named,
    }
}
