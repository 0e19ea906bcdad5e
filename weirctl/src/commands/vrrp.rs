//! `weirctl vrrp`

use weir_api::vrrp::Listing;

use crate::screen::{Column, Screen, Table, Tone, time};

/// A row for each instance, and what is wrong with it.
pub(super) fn text(listing: &Listing<'_>, screen: &Screen) -> String {
    if listing.instances.is_empty() {
        return "no instances of VRRP\n".to_owned();
    }
    let mut table = Table::new(vec![
        Column::left("INSTANCE"),
        Column::left("STATE"),
        Column::left("SINCE"),
        Column::right("VRID"),
        Column::left("PORT"),
        Column::right("PRIORITY"),
        Column::left("ADDRESSES").spare(1),
        Column::left("LAST HEARD").spare(2),
    ]);
    for it in &listing.instances {
        let tone = match &*it.state {
            "master" => Tone::Good,
            "fault" => Tone::Bad,
            _ => Tone::Plain,
        };
        let plain = |text: String| (text, Tone::Plain);
        let priority = match it.priority == it.configured_priority {
            true => it.priority.to_string(),
            false => format!("{} of {}", it.priority, it.configured_priority),
        };
        let addresses: Vec<String> = it.addresses.iter().map(ToString::to_string).collect();
        let heard = it.last_heard.as_ref().map_or_else(
            || "nobody".to_owned(),
            |heard| format!("{} ({}), {} ago", heard.from, heard.priority, time(heard.age_seconds)),
        );
        table.row(vec![
            plain(it.instance.to_string()),
            (it.state.to_string(), tone),
            plain(time(it.since_transition_seconds)),
            plain(it.virtual_router_id.to_string()),
            plain(it.port.to_string()),
            plain(priority),
            plain(addresses.join(" ")),
            plain(heard),
        ]);
    }
    let mut text = table.render(screen);
    for it in &listing.instances {
        if let Some(fault) = &it.fault {
            text += &format!("{}: {}\n", it.instance, screen.paint(fault, Tone::Bad));
        }
        if let Some(hmac) = &it.auth_hmac {
            let key = hmac.active_key;
            text += &format!("{}: auth_hmac: mode {}, key {key} is sent\n", it.instance, hmac.mode);
        }
        for (reason, count) in &it.discarded {
            text += &format!("{}: {count} advertisements refused: {reason}\n", it.instance);
        }
    }
    for it in &listing.unclaimed {
        text += &format!("{}: {} advertisements of no instance: {}\n", it.port, it.count, it.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_a_row_and_its_faults_a_line() {
        let listing = serde_json::json!({
            "instances": [{
                "instance": "vi", "sequence": 0, "auth_hmac": {"mode": "enforce", "active_key": 2}, "port": "lan", "virtual_router_id": 51, "version": 3,
                "state": "fault", "priority": 90, "configured_priority": 100, "addresses": ["192.0.2.1"],
                "sync_group": null, "fault": "port lan has no link", "since_transition_seconds": 61.5,
                "down_interval_seconds": 3.0, "last_heard": {"from": "10.0.0.3", "priority": 200, "age_seconds": 1.0},
                "advertisements_received": 1, "advertisements_sent": 2, "priority_zero_received": 0,
                "priority_zero_sent": 0, "became_master": 1, "released_master": 1, "address_mismatches": 0, "unsigned": 0,
                "announcements": 0, "defences": 0, "discarded": {"checksum": 4},
            }],
            "unclaimed": [{"port": "lan", "reason": "unknown_router", "count": 3}],
            "stalls": 0, "lateness_seconds": 0.0,
        });
        let listing: Listing<'static> = serde_json::from_value(listing).unwrap();
        assert_eq!(
            text(&listing, &Screen::plain(None)),
            "INSTANCE  STATE  SINCE      VRID  PORT   PRIORITY  ADDRESSES  LAST HEARD\n\
             vi        fault  1 min 1 s    51  lan   90 of 100  192.0.2.1  10.0.0.3 (200), 1 s ago\n\
             vi: port lan has no link\n\
             vi: auth_hmac: mode enforce, key 2 is sent\n\
             vi: 4 advertisements refused: checksum\n\
             lan: 3 advertisements of no instance: unknown_router\n"
        );
    }
}
