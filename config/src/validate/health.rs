//! `[virtual_server.health_check]`, and the same table of one real server.

use std::time::Duration;

use super::table::{Table, word};
use crate::model::{HealthCheck, HealthCheckKind};
use crate::schema::{self, OneTable, Tabular};

const KINDS: [(&str, HealthCheckKind); 8] = [
    ("tcp", HealthCheckKind::Tcp),
    ("http", HealthCheckKind::Http),
    ("https", HealthCheckKind::Https),
    ("udp", HealthCheckKind::Udp),
    ("dns", HealthCheckKind::Dns),
    ("smtp", HealthCheckKind::Smtp),
    ("ping", HealthCheckKind::Ping),
    ("exec", HealthCheckKind::Exec),
];

/// keepalived's names of its checkers.
const SYNONYMS: [(&str, &str); 8] = [
    ("tcp_check", "tcp"),
    ("http_get", "http"),
    ("ssl_get", "https"),
    ("udp_check", "udp"),
    ("dns_check", "dns"),
    ("smtp_check", "smtp"),
    ("icmp", "ping"),
    ("misc_check", "exec"),
];

pub(crate) fn health_check(
    field: &OneTable<schema::HealthCheck>,
    table: &mut Table<'_>,
) -> Option<HealthCheck> {
    let (Tabular(written), at) = table.value(field)?;
    let mut table = table.inner(at);
    let schema::HealthCheck { r#type, interval, timeout, fall, rise } = written;
    let kind = table.required_parsed(r#type, "type", "type = \"tcp\"", |text| {
        word("health check", &KINDS, &SYNONYMS, text)
    });
    let interval = table.seconds(interval, "interval", 0.1..=86_400.0, 2.0);
    let timeout = table.seconds(timeout, "timeout", 0.01..=3_600.0, 1.0);
    let fall = table.integer(fall, "fall", 1..=255, 3);
    let rise = table.integer(rise, "rise", 1..=255, 1);
    kind.map(|kind| HealthCheck {
        kind: kind.into_inner(),
        interval: Duration::from_secs_f64(interval.into_inner()),
        timeout: Duration::from_secs_f64(timeout.into_inner()),
        fall: fall.into_inner(),
        rise: rise.into_inner(),
    })
}
