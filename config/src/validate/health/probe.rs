//! `type` of a health check and the options of that type.

use toml::Spanned;

use super::program::command;
use super::texts;
use super::web::{http, tls};
use crate::model::health::{DnsRecord, Exchange, Expected, Probe};
use crate::report::Problem;
use crate::schema::{Field, HealthCheck, Span};
use crate::validate::fault::Fault;
use crate::validate::table::{Table, word};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Https,
    Udp,
    Dns,
    Smtp,
    Ping,
    Exec,
}

const KINDS: [(&str, Kind); 8] = [
    ("tcp", Kind::Tcp),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("udp", Kind::Udp),
    ("dns", Kind::Dns),
    ("smtp", Kind::Smtp),
    ("ping", Kind::Ping),
    ("exec", Kind::Exec),
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

pub(super) fn probe(written: &HealthCheck, table: &mut Table<'_>) -> Option<Probe> {
    let kind = table.required_parsed(&written.r#type, "type", "type = \"tcp\"", kind_of);
    let kind = kind?.into_inner();
    misplaced(written, kind, table);
    match kind {
        Kind::Tcp => Some(Probe::Tcp(exchange(written, table))),
        Kind::Http => Some(Probe::Http(Box::new(http(written, table)))),
        Kind::Https => {
            let http = Box::new(http(written, table));
            Some(Probe::Https(http, tls(written, table)))
        }
        Kind::Udp => {
            let exchange = exchange(written, table);
            let required = table.boolean(&written.require_reply, exchange.expect.is_some());
            if exchange.expect.is_some() && !required.get_ref() {
                let label = "an expected answer is required";
                table.report(
                    Problem::error("`require_reply` contradicts `expect`").at(required.span(), label),
                );
            }
            if exchange.expect.is_none() && written.require_reply.is_none() {
                let at = written.r#type.as_deref().map_or(table.at.clone(), Spanned::span);
                let problem = Problem::warning("a udp check that takes silence for success")
                    .at(at, "only \"port unreachable\" fails it, and hosts limit how many they send")
                    .help(
                        "write a `send` that the service answers and `require_reply = true`; or `require_reply = false` \
                         if this is meant",
                    );
                table.report(problem);
            }
            Some(Probe::Udp { exchange, require_reply: required.into_inner() })
        }
        Kind::Dns => {
            let query = table.parsed(&written.query, texts::dns_name).map(Spanned::into_inner);
            let record = table.parsed(&written.record, record).map(Spanned::into_inner);
            Some(Probe::Dns { query: query.unwrap_or_default(), record: record.unwrap_or(DnsRecord::Soa) })
        }
        Kind::Smtp => {
            let helo = table.parsed(&written.helo, texts::dns_name).map(Spanned::into_inner);
            Some(Probe::Smtp { helo: helo.unwrap_or_else(|| "weir.invalid".to_owned()) })
        }
        Kind::Ping => Some(Probe::Ping),
        Kind::Exec => {
            if written.command.is_none() {
                let problem = Problem::error("missing key `command`")
                    .at(table.at.clone(), "an exec check needs `command`")
                    .help("write such as `command = [\"/usr/lib/site/check\"]`");
                table.report(problem);
            }
            let command = command(&written.command, table);
            let dynamic_weight = table.boolean(&written.dynamic_weight, false).into_inner();
            Some(Probe::Exec { command: command?.into_inner(), dynamic_weight })
        }
    }
}

fn kind_of(text: &str) -> Result<Kind, Fault> {
    let fault = match word("health check", &KINDS, &SYNONYMS, text) {
        Ok(kind) => return Ok(kind),
        Err(fault) => fault,
    };
    // keepalived's `type` in a DNS_CHECK.
    Err(match record(text) {
        Ok(_) => {
            fault.help(format!("write `type = \"dns\"` and `record = \"{}\"`", text.to_ascii_uppercase()))
        }
        Err(_) => fault,
    })
}

/// Options that belong to another type do nothing, so they are mistakes.
fn misplaced(written: &HealthCheck, kind: Kind, table: &mut Table<'_>) {
    fn at<T>(field: &Field<T>) -> Option<Span> {
        field.as_deref().map(Spanned::span)
    }
    const WEB: &[Kind] = &[Kind::Http, Kind::Https];
    const EXCHANGE: &[Kind] = &[Kind::Tcp, Kind::Udp];
    let stream: &[Kind] = &[Kind::Tcp, Kind::Http, Kind::Https, Kind::Smtp];
    let network: &[Kind] =
        &[Kind::Tcp, Kind::Http, Kind::Https, Kind::Udp, Kind::Dns, Kind::Smtp, Kind::Ping];
    let ports: &[Kind] = &network[..6];
    let options: [(&str, Option<Span>, &[Kind]); 37] = [
        ("via", at(&written.via), ports),
        ("connect_timeout", at(&written.connect_timeout), stream),
        ("tls_timeout", at(&written.tls_timeout), &[Kind::Https]),
        ("response_timeout", at(&written.response_timeout), stream),
        ("address", at(&written.address), network),
        ("port", at(&written.port), ports),
        ("source", at(&written.source), network),
        ("method", at(&written.method), WEB),
        ("path", at(&written.path), WEB),
        ("host", at(&written.host), WEB),
        ("status", at(&written.status), WEB),
        ("expect_header", at(&written.expect_header), WEB),
        ("expect_header_regex", at(&written.expect_header_regex), WEB),
        ("expect_body", at(&written.expect_body), WEB),
        ("expect_body_regex", at(&written.expect_body_regex), WEB),
        ("expect_sha256", at(&written.expect_sha256), WEB),
        ("expect_md5", at(&written.expect_md5), WEB),
        ("body_limit", at(&written.body_limit), WEB),
        ("request_header", at(&written.request_header), WEB),
        ("request_body", at(&written.request_body), WEB),
        ("basic_auth", at(&written.basic_auth), WEB),
        ("url", at(&written.url), WEB),
        ("tls_verify", at(&written.tls_verify), &[Kind::Https]),
        ("tls_ca", at(&written.tls_ca), &[Kind::Https]),
        ("tls_server_name", at(&written.tls_server_name), &[Kind::Https]),
        ("tls_pin", at(&written.tls_pin), &[Kind::Https]),
        ("tls_cert", at(&written.tls_cert), &[Kind::Https]),
        ("tls_key", at(&written.tls_key), &[Kind::Https]),
        ("send", at(&written.send), EXCHANGE),
        ("send_hex", at(&written.send_hex), EXCHANGE),
        ("expect", at(&written.expect), EXCHANGE),
        ("expect_hex", at(&written.expect_hex), EXCHANGE),
        ("require_reply", at(&written.require_reply), &[Kind::Udp]),
        ("query", at(&written.query), &[Kind::Dns]),
        ("record", at(&written.record), &[Kind::Dns]),
        ("helo", at(&written.helo), &[Kind::Smtp]),
        ("command", at(&written.command), &[Kind::Exec]),
    ];
    let name = |kind: Kind| KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name);
    let dynamic = ("dynamic_weight", at(&written.dynamic_weight), &[Kind::Exec][..]);
    for (key, span, kinds) in options.into_iter().chain([dynamic]) {
        if let Some(span) = span.filter(|_| !kinds.contains(&kind)) {
            let homes: Vec<&str> = kinds.iter().map(|kind| name(*kind)).collect();
            let problem = Problem::error(format!("`{key}` is not an option of this check"))
                .at(span, format!("the type is {}", name(kind)))
                .help(format!("`{key}` belongs to the type {}", homes.join(", ")));
            table.report(problem);
        }
    }
}

fn exchange(written: &HealthCheck, table: &mut Table<'_>) -> Exchange {
    let send = table.parsed(&written.send, texts::sent);
    let send_hex = table.parsed(&written.send_hex, texts::hex);
    let expect = table.parsed(&written.expect, |text| texts::sent(text).map(Expected::Contains));
    let expect_hex = table.parsed(&written.expect_hex, |text| texts::wild_hex(text).map(Expected::Begins));
    either("send", send.as_ref(), send_hex.as_ref(), table);
    either("expect", expect.as_ref(), expect_hex.as_ref(), table);
    Exchange {
        send: send.or(send_hex).map(Spanned::into_inner).unwrap_or_default(),
        expect: expect.or(expect_hex).map(Spanned::into_inner),
    }
}

fn either<T>(key: &str, text: Option<&Spanned<T>>, hex: Option<&Spanned<T>>, table: &mut Table<'_>) {
    if let (Some(text), Some(hex)) = (text, hex) {
        let problem = Problem::error(format!("both `{key}` and `{key}_hex`"))
            .at(hex.span(), "only one of them can hold")
            .related(text.span(), "the other")
            .help("remove one of them");
        table.report(problem);
    }
}

fn record(text: &str) -> Result<DnsRecord, Fault> {
    let words = [
        ("A", DnsRecord::A),
        ("NS", DnsRecord::Ns),
        ("CNAME", DnsRecord::Cname),
        ("SOA", DnsRecord::Soa),
        ("MX", DnsRecord::Mx),
        ("TXT", DnsRecord::Txt),
        ("AAAA", DnsRecord::Aaaa),
    ];
    word("record", &words, &[], &text.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_alone_in_the_place_of_a_check_is_known() {
        assert_eq!(KINDS.map(|(name, _)| name), crate::validate::values::CHECKS);
    }
}
