//! The file as written.
//!
//! One struct per table, one field per key, in the words of the file. Nothing is required, defaulted or
//! checked here: that is `validate`'s work, which needs the places. Deserializing never fails on a value:
//! each one is kept with its place, and one of a wrong type is kept as the complaint about it, so that one
//! run shows them all. Unknown keys are found by `keys` before; `deny_unknown_fields` is the net below it.

mod health;
mod value;

use serde::Deserialize;

pub(crate) use health::{Agent, Health, HealthCheck, Passive, Url};
pub(crate) use value::{
    Boolean, Field, Integer, Lenient, List, LongInteger, Number, NumberOrWord, OneTable, Ports, Several,
    SeveralTables, Span, Switch, Tables, Tabular, Text,
};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) control: OneTable<Control>,
    pub(crate) http: OneTable<Http>,
    pub(crate) workers: OneTable<Workers>,
    pub(crate) memory: OneTable<Memory>,
    pub(crate) connections: OneTable<Connections>,
    pub(crate) schedulers: OneTable<Schedulers>,
    pub(crate) health: OneTable<Health>,
    pub(crate) port: Tables<Port>,
    pub(crate) route: Tables<Route>,
    pub(crate) neighbor: Tables<Neighbor>,
    pub(crate) mark: Tables<Mark>,
    pub(crate) virtual_server: Tables<VirtualServer>,
    pub(crate) vrrp: Tables<Vrrp>,
    pub(crate) vrrp_sync_group: Tables<VrrpSyncGroup>,
    pub(crate) announce: Tables<Announce>,
    pub(crate) sync: OneTable<Sync>,
}

impl File {
    /// Adds what another slice of the same text says. What may stand there once stands in one of them.
    pub(crate) fn append(&mut self, more: Self) {
        let Self {
            control,
            http,
            workers,
            memory,
            connections,
            schedulers,
            health,
            port,
            route,
            neighbor,
            mark,
            virtual_server,
            vrrp,
            vrrp_sync_group,
            announce,
            sync,
        } = more;
        append_one(&mut self.control, control);
        append_one(&mut self.http, http);
        append_one(&mut self.workers, workers);
        append_one(&mut self.memory, memory);
        append_one(&mut self.connections, connections);
        append_one(&mut self.schedulers, schedulers);
        append_one(&mut self.health, health);
        append_many(&mut self.port, port);
        append_many(&mut self.route, route);
        append_many(&mut self.neighbor, neighbor);
        append_many(&mut self.mark, mark);
        append_many(&mut self.virtual_server, virtual_server);
        append_many(&mut self.vrrp, vrrp);
        append_many(&mut self.vrrp_sync_group, vrrp_sync_group);
        append_many(&mut self.announce, announce);
        append_one(&mut self.sync, sync);
    }
}

fn append_one<T>(field: &mut OneTable<T>, more: OneTable<T>) {
    if field.is_none() {
        *field = more;
    }
}

fn append_many<T>(field: &mut Tables<T>, more: Tables<T>) {
    let Some(more) = more else { return };
    let Some(list) = field else {
        *field = Some(more);
        return;
    };
    if let (Ok(list), Ok(more)) = (&mut list.get_mut().0, more.into_inner().0) {
        list.0.extend(more.0);
    }
}

/// `[control]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) socket: Field<Text>,
    pub(crate) proc_directory: Field<Text>,
    pub(crate) user: Field<Text>,
    pub(crate) group: Field<Text>,
    pub(crate) core_dumps: Field<Boolean>,
    pub(crate) linger: Field<Number>,
    pub(crate) crash_directory: Field<Text>,
    pub(crate) vrrp_notify_fifo: Field<Text>,
}

/// `[http]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) listen: Field<Text>,
    pub(crate) hosts: Field<List<Text>>,
    pub(crate) tls_certificate: Field<Text>,
    pub(crate) tls_key: Field<Text>,
    pub(crate) token_file: Field<Text>,
}

/// `[sync]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sync {
    pub(crate) kernel: Field<Text>,
    pub(crate) interface: Field<Text>,
    pub(crate) id: Field<Integer>,
    pub(crate) group: Field<Text>,
    pub(crate) port: Field<Integer>,
}

/// `[workers]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workers {
    pub(crate) idle: Field<Text>,
    pub(crate) sleep_max_us: Field<Integer>,
}

/// `[memory]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) mbufs: Field<Integer>,
    pub(crate) mbuf_data_bytes: Field<Integer>,
}

/// `[connections]`: apart from `keep`, `keeper`, `capacity`, `ipv6_clients`, `templates`, `ipv6_templates` and `fragments` the names are those of `net.ipv4.vs.*`, and of `net.ipv4` and
/// `net.ipv6` those of fragments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connections {
    pub(crate) keep: Field<Boolean>,
    pub(crate) keeper: Field<Text>,
    pub(crate) capacity: Field<Integer>,
    pub(crate) ipv6_clients: Field<Integer>,
    pub(crate) templates: Field<Integer>,
    pub(crate) ipv6_templates: Field<Integer>,
    pub(crate) fragments: Field<Integer>,
    pub(crate) ipfrag_time: Field<Integer>,
    pub(crate) ip6frag_time: Field<Integer>,
    pub(crate) sloppy_tcp: Field<Switch>,
    pub(crate) sloppy_sctp: Field<Switch>,
    pub(crate) expire_nodest_conn: Field<Switch>,
    pub(crate) expire_quiescent_template: Field<Switch>,
    pub(crate) conn_reuse_mode: Field<Integer>,
    pub(crate) nat_icmp_send: Field<Switch>,
    pub(crate) pmtu_disc: Field<Switch>,
    pub(crate) schedule_icmp: Field<Switch>,
    pub(crate) secure_tcp: Field<Boolean>,
    pub(crate) timeouts: OneTable<Timeouts>,
}

/// `[connections.timeouts]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    pub(crate) tcp_none: Field<Integer>,
    pub(crate) tcp_established: Field<Integer>,
    pub(crate) tcp_syn_sent: Field<Integer>,
    pub(crate) tcp_syn_recv: Field<Integer>,
    pub(crate) tcp_fin_wait: Field<Integer>,
    pub(crate) tcp_time_wait: Field<Integer>,
    pub(crate) tcp_close: Field<Integer>,
    pub(crate) tcp_close_wait: Field<Integer>,
    pub(crate) tcp_last_ack: Field<Integer>,
    pub(crate) tcp_listen: Field<Integer>,
    pub(crate) tcp_synack: Field<Integer>,
    pub(crate) udp: Field<Integer>,
    pub(crate) sctp_none: Field<Integer>,
    pub(crate) sctp_init1: Field<Integer>,
    pub(crate) sctp_init: Field<Integer>,
    pub(crate) sctp_cookie_sent: Field<Integer>,
    pub(crate) sctp_cookie_replied: Field<Integer>,
    pub(crate) sctp_cookie_wait: Field<Integer>,
    pub(crate) sctp_cookie: Field<Integer>,
    pub(crate) sctp_cookie_echoed: Field<Integer>,
    pub(crate) sctp_established: Field<Integer>,
    pub(crate) sctp_shutdown_sent: Field<Integer>,
    pub(crate) sctp_shutdown_received: Field<Integer>,
    pub(crate) sctp_shutdown_ack_sent: Field<Integer>,
    pub(crate) sctp_rejected: Field<Integer>,
    pub(crate) sctp_closed: Field<Integer>,
}

/// `[schedulers]`: the names of `net.ipv4.vs.*` where the kernel has one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedulers {
    pub(crate) mh_table_size: Field<Integer>,
    pub(crate) mh_seed: Field<LongInteger>,
    pub(crate) lblc_expiration: Field<Integer>,
    pub(crate) lblcr_expiration: Field<Integer>,
}

/// `[[port]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub(crate) name: Field<Text>,
    pub(crate) device: Field<Text>,
    pub(crate) vlan: Field<Integer>,
    pub(crate) mac: Field<Text>,
    pub(crate) addresses: Field<List<Text>>,
    pub(crate) mtu: Field<Integer>,
    pub(crate) rx_queues: Field<Integer>,
    pub(crate) proxy_arp: Field<List<Text>>,
    pub(crate) host_interface: Field<Text>,
}

/// `[[route]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) destination: Field<Text>,
    pub(crate) gateway: Field<Text>,
}

/// `[[neighbor]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Neighbor {
    pub(crate) address: Field<Text>,
    pub(crate) mac: Field<Text>,
}

/// `[[mark]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub(crate) mark: Field<Integer>,
    pub(crate) addresses: Field<List<Text>>,
    pub(crate) ports: Field<List<Ports>>,
    pub(crate) protocols: Field<List<Text>>,
    pub(crate) sources: Field<List<Text>>,
}

/// `[[virtual_server]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VirtualServer {
    pub(crate) name: Field<Text>,
    pub(crate) address: Field<Text>,
    pub(crate) port: Field<Integer>,
    pub(crate) protocol: Field<Text>,
    pub(crate) mark: Field<Integer>,
    pub(crate) family: Field<Text>,
    pub(crate) forwarding: Field<Text>,
    pub(crate) scheduler: Field<Text>,
    pub(crate) scheduler_flags: Field<List<Text>>,
    pub(crate) persistence_timeout: Field<Integer>,
    pub(crate) persistence_netmask: Field<Integer>,
    pub(crate) persistence_engine: Field<Text>,
    pub(crate) one_packet: Field<Boolean>,
    pub(crate) clamp_mss: Field<NumberOrWord>,
    pub(crate) helper: Field<Text>,
    pub(crate) health_check: SeveralTables<HealthCheck>,
    pub(crate) on_fail: Field<Text>,
    pub(crate) alpha: Field<Boolean>,
    pub(crate) omega: Field<Boolean>,
    pub(crate) quorum: Field<Integer>,
    pub(crate) hysteresis: Field<Integer>,
    pub(crate) sorry_server: OneTable<RealServer>,
    pub(crate) sorry_mode: Field<Text>,
    pub(crate) notify_up: Field<List<Text>>,
    pub(crate) notify_down: Field<List<Text>>,
    pub(crate) quorum_up: Field<List<Text>>,
    pub(crate) quorum_down: Field<List<Text>>,
    pub(crate) agent: OneTable<Agent>,
    pub(crate) passive: OneTable<Passive>,
    pub(crate) real_server: Tables<RealServer>,
}

/// `[[virtual_server.real_server]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RealServer {
    pub(crate) address: Field<Text>,
    pub(crate) port: Field<Integer>,
    pub(crate) weight: Field<Integer>,
    pub(crate) forwarding: Field<Text>,
    pub(crate) upper_threshold: Field<Integer>,
    pub(crate) lower_threshold: Field<Integer>,
    pub(crate) tunnel: Field<Text>,
    pub(crate) tunnel_port: Field<Integer>,
    pub(crate) tunnel_checksum: Field<Text>,
    pub(crate) health_check: SeveralTables<HealthCheck>,
    pub(crate) on_fail: Field<Text>,
    pub(crate) agent: OneTable<Agent>,
    pub(crate) weight_file: Field<Text>,
    pub(crate) notify_up: Field<List<Text>>,
    pub(crate) notify_down: Field<List<Text>>,
}

/// `[[vrrp]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vrrp {
    pub(crate) name: Field<Text>,
    pub(crate) port: Field<Text>,
    pub(crate) virtual_router_id: Field<Integer>,
    pub(crate) version: Field<Integer>,
    pub(crate) priority: Field<Integer>,
    pub(crate) advertisement_interval: Field<Number>,
    pub(crate) preempt: Field<Boolean>,
    pub(crate) preempt_delay: Field<Number>,
    pub(crate) startup_delay: Field<Number>,
    pub(crate) virtual_mac: Field<Boolean>,
    pub(crate) addresses: Field<List<Text>>,
    pub(crate) excluded_addresses: Field<List<Text>>,
    pub(crate) source_address: Field<Text>,
    pub(crate) unicast_peers: Field<List<Text>>,
    pub(crate) ttl_min: Field<Integer>,
    pub(crate) ttl_max: Field<Integer>,
    pub(crate) accept: Field<Boolean>,
    pub(crate) sync_group: Field<Text>,
    pub(crate) v3_checksum_as_v2: Field<Boolean>,
    pub(crate) garp_master_delay: Field<Number>,
    pub(crate) garp_master_repeat: Field<Integer>,
    pub(crate) garp_master_refresh: Field<Number>,
    pub(crate) garp_master_refresh_repeat: Field<Integer>,
    pub(crate) garp_lower_prio_delay: Field<Number>,
    pub(crate) garp_lower_prio_repeat: Field<Integer>,
    pub(crate) garp_interval: Field<Number>,
    pub(crate) gna_interval: Field<Number>,
    pub(crate) notify_master: Field<List<Text>>,
    pub(crate) notify_backup: Field<List<Text>>,
    pub(crate) notify_fault: Field<List<Text>>,
    pub(crate) notify_stop: Field<List<Text>>,
    pub(crate) notify: Field<List<Text>>,
    pub(crate) authentication: OneTable<VrrpAuthentication>,
    pub(crate) auth_hmac: OneTable<VrrpHmac>,
    pub(crate) track: Tables<VrrpTrack>,
}

/// `[[vrrp_sync_group]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VrrpSyncGroup {
    pub(crate) name: Field<Text>,
    pub(crate) notify_master: Field<List<Text>>,
    pub(crate) notify_backup: Field<List<Text>>,
    pub(crate) notify_fault: Field<List<Text>>,
    pub(crate) notify_stop: Field<List<Text>>,
    pub(crate) notify: Field<List<Text>>,
}

/// `[[vrrp.track]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VrrpTrack {
    pub(crate) port: Field<Text>,
    pub(crate) virtual_server: Field<Text>,
    pub(crate) file: Field<Text>,
    pub(crate) script: Field<List<Text>>,
    pub(crate) process: Field<Text>,
    pub(crate) weight: Field<Integer>,
    pub(crate) name: Field<Text>,
    pub(crate) interval: Field<Number>,
    pub(crate) timeout: Field<Number>,
    pub(crate) rise: Field<Integer>,
    pub(crate) fall: Field<Integer>,
    pub(crate) init_fail: Field<Boolean>,
    pub(crate) user: Field<Text>,
    pub(crate) group: Field<Text>,
    pub(crate) quorum: Field<Integer>,
}

/// `[vrrp.authentication]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VrrpAuthentication {
    pub(crate) r#type: Field<Text>,
    pub(crate) password: Field<Text>,
    pub(crate) sequence_file: Field<Text>,
}

/// `[vrrp.auth_hmac]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VrrpHmac {
    pub(crate) mode: Field<Text>,
    pub(crate) keys: Field<List<Text>>,
    pub(crate) active_key: Field<Integer>,
    pub(crate) anti_replay: Field<Text>,
    pub(crate) time_window: Field<Number>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_takes_a_pointer_s_room() {
        assert_eq!(size_of::<SeveralTables<HealthCheck>>(), size_of::<usize>());
        assert_eq!(size_of::<RealServer>(), 15 * size_of::<usize>());
    }
}

/// `[[announce]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announce {
    pub(crate) vips: Field<List<Text>>,
    pub(crate) quorum: Field<Text>,
    pub(crate) table: Field<Integer>,
    pub(crate) metric: Field<Integer>,
    pub(crate) draining_metric: Field<Integer>,
    pub(crate) protocol: Field<Integer>,
    pub(crate) interface: Field<Text>,
}
