//! `/api/v1/vrrp`: the instances of VRRP, as JSON.

use weir_api::vrrp::{Heard, Hmac, Instance, Listing, Unclaimed};
use weir_vrrp::discard::Discard;

use crate::vrrp::status::{InstanceStatus, Status};

/// The page.
pub(super) fn render(status: &Status) -> Result<Vec<u8>, String> {
    let unclaimed = status.unclaimed.iter().map(|it| Unclaimed {
        port: (&it.port).into(),
        reason: it.reason.into(),
        count: it.count,
    });
    let listing = Listing {
        instances: status.instances.iter().map(instance).collect(),
        unclaimed: unclaimed.collect(),
        stalls: status.stalls,
        lateness_seconds: status.lateness_seconds,
    };
    serde_json::to_vec(&listing).map_err(|problem| problem.to_string())
}

fn instance(it: &InstanceStatus) -> Instance<'_> {
    let discarded = Discard::ALL.iter().zip(it.discarded).filter(|(_, count)| *count > 0);
    Instance {
        instance: (&it.instance).into(),
        sequence: it.sequence,
        auth_hmac: it.auth_hmac.map(|(mode, active_key)| Hmac { mode: mode.into(), active_key }),
        port: (&it.port).into(),
        virtual_router_id: it.virtual_router_id,
        version: it.version,
        state: it.state.into(),
        priority: it.priority,
        configured_priority: it.configured_priority,
        addresses: (&it.addresses).into(),
        sync_group: it.sync_group.as_deref().map(Into::into),
        fault: it.fault.as_deref().map(Into::into),
        since_transition_seconds: it.since_transition_seconds,
        down_interval_seconds: it.down_interval_seconds,
        last_heard: it.last_heard.as_ref().map(|heard| Heard {
            from: heard.from,
            priority: heard.priority,
            age_seconds: heard.age_seconds,
        }),
        advertisements_received: it.advertisements_received,
        advertisements_sent: it.advertisements_sent,
        priority_zero_received: it.priority_zero_received,
        priority_zero_sent: it.priority_zero_sent,
        became_master: it.became_master,
        released_master: it.released_master,
        unsigned: it.unsigned,
        address_mismatches: it.address_mismatches,
        announcements: it.announcements,
        defences: it.defences,
        discarded: discarded.map(|(reason, count)| (reason.label().into(), count)).collect(),
    }
}
