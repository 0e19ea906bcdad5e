//! `[connections]` and `[connections.timeouts]`

use toml::Spanned;

use super::table::{Table, peek};
use super::values;
use crate::model::{Connections, SctpTimeouts, TcpTimeouts, Timeouts};
use crate::report::Problem;
use crate::schema::{self, Field, Integer, OneTable, Span, Tabular};

/// UDP connections stay this long: `udp_timeouts` of ip_vs_proto_udp.
const UDP_SECS: u32 = 300;

/// Seconds of a timeout: ten days hold every use, and the kernel's jiffies do not overflow either.
const TIMEOUT_SECS: std::ops::RangeInclusive<i64> = 1..=864_000;

pub(crate) fn connections(field: &OneTable<schema::Connections>, table: &mut Table<'_>) -> Connections {
    let mut connections = Connections {
        keep: false,
        keeper: None,
        capacity: 1_048_576,
        ipv6_clients: None,
        templates: 0,
        ipv6_templates: 0,
        fragments: 131_072,
        ipfrag_time: 30,
        ip6frag_time: 60,
        sloppy_tcp: false,
        sloppy_sctp: false,
        expire_nodest_conn: false,
        expire_quiescent_template: false,
        conn_reuse_mode: 1,
        nat_icmp_send: false,
        pmtu_disc: true,
        schedule_icmp: false,
        secure_tcp: false,
        timeouts: Timeouts { tcp: TcpTimeouts::default(), udp: UDP_SECS, sctp: SctpTimeouts::default() },
    };
    let Some((Tabular(written), at)) = table.value(field) else { return connections };
    let mut table = table.inner(at);
    let c = &mut connections;
    c.keep = table.boolean(&written.keep, c.keep).into_inner();
    c.keeper = table.parsed(&written.keeper, values::socket_path).map(Spanned::into_inner);
    let capacity = table.integer(&written.capacity, "capacity", 1024..=16_777_216, c.capacity);
    c.capacity = capacity.into_inner();
    let clients = table.integer::<u32>(&written.ipv6_clients, "ipv6_clients", 0..=16_777_216, 0);
    if (1..Connections::IPV6_CLIENTS_MIN).contains(clients.get_ref()) {
        let problem =
            Problem::error("too few IPv6 clients").at(clients.span(), "must be 0 or 1024 to 16777216").help(
                "leave the key out to have room for as many as `capacity` says, or write 0 for none at all",
            );
        table.report(problem);
    }
    c.ipv6_clients = written.ipv6_clients.is_some().then(|| clients.into_inner());
    c.templates = templates(&written.templates, "templates", &mut table);
    c.ipv6_templates = templates(&written.ipv6_templates, "ipv6_templates", &mut table);
    c.fragments = table.integer(&written.fragments, "fragments", 1024..=16_777_216, c.fragments).into_inner();
    let mut secs = |field: &Field<Integer>, key: &str, secs: &mut u32| {
        *secs = table.integer(field, key, TIMEOUT_SECS, *secs).into_inner();
    };
    secs(&written.ipfrag_time, "ipfrag_time", &mut c.ipfrag_time);
    secs(&written.ip6frag_time, "ip6frag_time", &mut c.ip6frag_time);
    c.sloppy_tcp = table.switch(&written.sloppy_tcp, c.sloppy_tcp);
    c.sloppy_sctp = table.switch(&written.sloppy_sctp, c.sloppy_sctp);
    c.expire_nodest_conn = table.switch(&written.expire_nodest_conn, c.expire_nodest_conn);
    c.expire_quiescent_template =
        table.switch(&written.expire_quiescent_template, c.expire_quiescent_template);
    let reuse = table.integer(&written.conn_reuse_mode, "conn_reuse_mode", 0..=3, c.conn_reuse_mode);
    c.conn_reuse_mode = reuse.into_inner();
    c.nat_icmp_send = table.switch(&written.nat_icmp_send, c.nat_icmp_send);
    c.pmtu_disc = table.switch(&written.pmtu_disc, c.pmtu_disc);
    c.schedule_icmp = table.switch(&written.schedule_icmp, c.schedule_icmp);
    // The kernel's numbers for it are modes, two of which depend on free memory: they are not taken.
    c.secure_tcp = table.boolean(&written.secure_tcp, c.secure_tcp).into_inner();
    if let Some((Tabular(written), at)) = table.value(&written.timeouts) {
        timeouts(written, &mut c.timeouts, &mut table.inner(at));
    }
    connections
}

/// The timeouts alone, those that are not written as in `others`.
pub(crate) fn timeouts_over(
    field: &OneTable<schema::Connections>,
    others: &Timeouts,
    table: &mut Table<'_>,
) -> Timeouts {
    let mut read = others.clone();
    if let Some((Tabular(written), at)) = table.value(field)
        && let Some((Tabular(written), at)) = table.inner(at).value(&written.timeouts)
    {
        timeouts(written, &mut read, &mut table.inner(at));
    }
    read
}

/// Where the file says that it wants no room for IPv6 clients.
pub(crate) fn no_ipv6(field: &OneTable<schema::Connections>) -> Option<Span> {
    let (Tabular(written), _) = peek(field)?;
    let (clients, at) = peek(&written.ipv6_clients)?;
    (clients.0 == 0).then_some(at)
}

/// Room for persistence templates.
fn templates(field: &Field<Integer>, key: &str, table: &mut Table<'_>) -> u32 {
    let templates = table.integer::<u32>(field, key, 0..=67_108_864, 0);
    if (1..1024).contains(templates.get_ref()) {
        let problem = Problem::error("too few templates")
            .at(templates.span(), "must be 0 or 1024 to 67108864")
            .help("write 0 to have them computed from `capacity`");
        table.report(problem);
    }
    templates.into_inner()
}

fn timeouts(written: &schema::Timeouts, timeouts: &mut Timeouts, table: &mut Table<'_>) {
    let Timeouts { tcp, udp, sctp } = timeouts;
    let mut read = |field: &Field<Integer>, key: &str, secs: &mut u32| {
        *secs = table.integer(field, key, TIMEOUT_SECS, *secs).into_inner();
    };
    read(&written.tcp_none, "tcp_none", &mut tcp.none);
    read(&written.tcp_established, "tcp_established", &mut tcp.established);
    read(&written.tcp_syn_sent, "tcp_syn_sent", &mut tcp.syn_sent);
    read(&written.tcp_syn_recv, "tcp_syn_recv", &mut tcp.syn_recv);
    read(&written.tcp_fin_wait, "tcp_fin_wait", &mut tcp.fin_wait);
    read(&written.tcp_time_wait, "tcp_time_wait", &mut tcp.time_wait);
    read(&written.tcp_close, "tcp_close", &mut tcp.close);
    read(&written.tcp_close_wait, "tcp_close_wait", &mut tcp.close_wait);
    read(&written.tcp_last_ack, "tcp_last_ack", &mut tcp.last_ack);
    read(&written.tcp_listen, "tcp_listen", &mut tcp.listen);
    read(&written.tcp_synack, "tcp_synack", &mut tcp.synack);
    read(&written.udp, "udp", udp);
    read(&written.sctp_none, "sctp_none", &mut sctp.none);
    read(&written.sctp_init1, "sctp_init1", &mut sctp.init1);
    read(&written.sctp_init, "sctp_init", &mut sctp.init);
    read(&written.sctp_cookie_sent, "sctp_cookie_sent", &mut sctp.cookie_sent);
    read(&written.sctp_cookie_replied, "sctp_cookie_replied", &mut sctp.cookie_replied);
    read(&written.sctp_cookie_wait, "sctp_cookie_wait", &mut sctp.cookie_wait);
    read(&written.sctp_cookie, "sctp_cookie", &mut sctp.cookie);
    read(&written.sctp_cookie_echoed, "sctp_cookie_echoed", &mut sctp.cookie_echoed);
    read(&written.sctp_established, "sctp_established", &mut sctp.established);
    read(&written.sctp_shutdown_sent, "sctp_shutdown_sent", &mut sctp.shutdown_sent);
    read(&written.sctp_shutdown_received, "sctp_shutdown_received", &mut sctp.shutdown_received);
    read(&written.sctp_shutdown_ack_sent, "sctp_shutdown_ack_sent", &mut sctp.shutdown_ack_sent);
    read(&written.sctp_rejected, "sctp_rejected", &mut sctp.rejected);
    read(&written.sctp_closed, "sctp_closed", &mut sctp.closed);
}
