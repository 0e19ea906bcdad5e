//! The status page: one reading as HTML tables. No script, nothing loaded from elsewhere, bounded in length.

use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant, SystemTime};

use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::traffic::Traffic;

use super::query::pairs;
use crate::metrics::reading::{self, PortReading, Reading, VirtualServerReading, WorkerReading};
use crate::reload_status::unix_seconds;
use crate::sources::Sources;

/// Time between the two readings that rates are made of.
pub(super) const RATE_INTERVAL: Duration = Duration::from_millis(200);
/// Virtual servers on a page.
const VIRTUAL_SERVERS_PER_PAGE: usize = 100;
/// Real servers on a page; those beyond are in the metrics.
const REAL_SERVERS_PER_PAGE: usize = 2_000;
/// Longest wait between reloads of the page, in seconds.
const REFRESH_MAX: u32 = 3_600;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#888}\
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:80rem;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:1.8rem 0 .4rem}\
p{margin:.3rem 0}.dim,tr.zero td{color:var(--dim)}.bad{color:#c22;font-weight:600}\
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:60%}\
th,td{padding:.2rem .7rem .2rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
tr.service th,tr.service td{padding-top:.7rem}td.real{padding-left:1.5rem}";

/// What the address asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    /// Page of virtual servers, from 1.
    page: usize,
    /// Seconds after which the browser loads the page again.
    pub(super) refresh: Option<u32>,
}

impl Query {
    /// Reads what stands behind the question mark. Keys that mean nothing here are left alone.
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let mut parsed = Self { page: 1, refresh: None };
        for (key, value) in pairs(query) {
            match &*key {
                "page" => {
                    let page = value.parse().ok().filter(|&page| page != 0);
                    parsed.page = page.ok_or("page is a whole number, 1 or more")?;
                }
                "refresh" => {
                    let seconds = value.parse().ok().filter(|seconds| (1..=REFRESH_MAX).contains(seconds));
                    parsed.refresh = Some(seconds.ok_or("refresh is a whole number of seconds, 1 to 3600")?);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// The first of the two readings that rates are made of.
pub(super) struct Before {
    at: Instant,
    ports: Vec<PortReading>,
    workers: Vec<WorkerReading>,
}

impl Before {
    /// All ports and workers now.
    pub(super) fn take(sources: &Sources) -> Self {
        Self { at: Instant::now(), ports: reading::ports(sources), workers: reading::workers(sources) }
    }
}

/// The whole page.
pub(super) fn render(now: &Reading, before: &Before, query: &Query) -> String {
    let mut html = String::with_capacity(16 << 10);
    // Writing to a String can't fail.
    let _ = write(&mut html, now, before, query);
    html
}

fn write(html: &mut String, now: &Reading, before: &Before, query: &Query) -> fmt::Result {
    write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>weir</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <style>{STYLE}</style></head>\n<body>\n"
    )?;
    head(html, now, query)?;
    ports(html, now, before)?;
    workers(html, now, before)?;
    vrrp(html, now)?;
    virtual_servers(html, now, query)?;
    health(html, now)?;
    packets(html, now)?;
    html.write_str("</body></html>\n")
}

fn head(html: &mut String, now: &Reading, query: &Query) -> fmt::Result {
    let clock = SystemTime::now();
    let up = clock.duration_since(now.started).unwrap_or_default();
    let since_reload = Duration::from_secs_f64((unix_seconds(clock) - now.reload_at).max(0.0));
    writeln!(
        html,
        "<h1>weir</h1>\n<p>weir {} on DPDK {}, up for {}. Configuration {} is in force.</p>",
        now.version,
        Text(&now.dpdk_version),
        Span(up),
        now.generation
    )?;
    if now.reload_successful {
        writeln!(html, "<p class=\"dim\">The file was last loaded {} ago.</p>", Span(since_reload))?;
    } else {
        writeln!(
            html,
            "<p class=\"bad\">The file could not be reloaded {} ago; the former configuration stays in force. \
             The log says why.</p>",
            Span(since_reload)
        )?;
    }
    let refresh = match query.refresh {
        Some(_) => "<a href=\"/\">stop reloading</a>",
        None => "<a href=\"/?refresh=5\">reload every 5 s</a>",
    };
    writeln!(
        html,
        "<p class=\"dim\"><a href=\"/metrics\">metrics</a> · <a href=\"/ready\">ready?</a> · {refresh}</p>"
    )
}

fn ports(html: &mut String, now: &Reading, before: &Before) -> fmt::Result {
    let seconds = before.at.elapsed().as_secs_f64();
    table(
        html,
        "Ports",
        &["Port", "Link"],
        &["Received/s", "Sent/s", "Received", "Bytes", "Sent", "Bytes", "Missed", "No buffer", "Errors"],
        &[],
    )?;
    for (port, earlier) in now.ports.iter().zip(&before.ports) {
        let link = match port.link_up {
            Some(true) => "up",
            Some(false) => "<span class=\"bad\">down</span>",
            None => "not known",
        };
        write!(html, "<tr><td>{}</td><td>{link}</td>", Text(&port.name))?;
        let rate = |now: u64, then: u64| Count((now.wrapping_sub(then) as f64 / seconds) as u64);
        number(html, rate(port.receive_packets, earlier.receive_packets))?;
        number(html, rate(port.transmit_packets, earlier.transmit_packets))?;
        number(html, Count(port.receive_packets))?;
        number(html, Octets(port.receive_bytes))?;
        number(html, Count(port.transmit_packets))?;
        number(html, Octets(port.transmit_bytes))?;
        match &port.device {
            Some(stats) => {
                number(html, Count(stats.imissed))?;
                number(html, Count(stats.rx_nombuf))?;
                number(html, Count(stats.ierrors + stats.oerrors))?;
            }
            None => html.write_str("<td class=\"n dim\" colspan=\"3\">the device does not say</td>")?,
        }
        html.write_str("</tr>\n")?;
    }
    end(html)
}

fn workers(html: &mut String, now: &Reading, before: &Before) -> fmt::Result {
    table(
        html,
        "Workers",
        &["Worker"],
        &["Busy", "Longest pass", "Connections", "Room for", "Full", "Configuration"],
        &[],
    )?;
    for (number_of_worker, (worker, earlier)) in now.workers.iter().zip(&before.workers).enumerate() {
        write!(html, "<tr><td>{number_of_worker}</td>")?;
        let busy = worker.busy_cycles.wrapping_sub(earlier.busy_cycles);
        match worker.cycles().wrapping_sub(earlier.cycles()) {
            0 if worker.is_stuck => html.write_str("<td class=\"n bad\">is stuck</td>")?,
            // It may be late and no more.
            0 => html.write_str("<td class=\"n bad\">no poll just now</td>")?,
            all => number(html, Share(busy, all))?,
        }
        let longest_micros = worker.longest_cycles as f64 / now.cycles_per_second as f64 * 1e6;
        number(html, format_args!("{longest_micros:.0} µs"))?;
        number(html, Count(worker.connections))?;
        number(html, Count(worker.capacity))?;
        number(html, Share(worker.connections, worker.capacity))?;
        number(html, Count(worker.generation))?;
        html.write_str("</tr>\n")?;
    }
    end(html)
}

/// The instances of VRRP, if there are any.
fn vrrp(html: &mut String, now: &Reading) -> fmt::Result {
    if now.vrrp.instances.is_empty() {
        return Ok(());
    }
    let left = ["Instance", "State", "Port", "Addresses", "Last heard from"];
    table(
        html,
        "VRRP",
        &left,
        &["VRID", "Priority", "Age", "Received", "Sent", "Refused", "Became master"],
        &[],
    )?;
    for instance in &now.vrrp.instances {
        let state = match &instance.fault_sentence {
            Some(fault) => format!("{}: {fault}", instance.state),
            None => instance.state.to_owned(),
        };
        let addresses: Vec<String> = instance.addresses.iter().take(4).map(ToString::to_string).collect();
        let more = if instance.addresses.len() > 4 { ", …" } else { "" };
        let heard = instance.last_heard.as_ref();
        write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}{more}</td><td>{}</td>",
            Text(&instance.instance),
            Text(&state),
            Text(&instance.port),
            Text(&addresses.join(", ")),
            Text(&heard.map_or("nobody".to_owned(), |heard| heard.from.to_string())),
        )?;
        number(html, Count(instance.virtual_router_id.into()))?;
        number(html, Count(instance.priority.into()))?;
        match heard {
            Some(heard) => number(html, Span(Duration::from_secs_f64(heard.age_seconds)))?,
            None => html.write_str("<td class=\"n\">–</td>")?,
        }
        number(html, Count(instance.advertisements_received))?;
        number(html, Count(instance.advertisements_sent))?;
        number(html, Count(instance.discarded.iter().sum()))?;
        number(html, Count(instance.became_master))?;
        html.write_str("</tr>\n")?;
    }
    end(html)
}

/// What is checked, with what is down first.
fn health(html: &mut String, now: &Reading) -> fmt::Result {
    let services = &now.health.services;
    let servers = services.iter().flat_map(|service| service.servers.iter().map(move |it| (service, it)));
    let mut shown: Vec<_> = servers.filter(|(_, it)| !it.is_up || !it.checks.is_empty()).collect();
    if shown.is_empty() {
        return Ok(());
    }
    shown.sort_by_key(|(_, it)| it.is_up);
    let left = shown.len().saturating_sub(REAL_SERVERS_PER_PAGE);
    shown.truncate(REAL_SERVERS_PER_PAGE);
    table(
        html,
        "Health",
        &["Virtual server", "Real server", "State"],
        &["For", "Weight"],
        &["Why", "Last check"],
    )?;
    for service in services.iter().filter(|service| !service.has_quorum) {
        writeln!(
            html,
            "<tr><td>{}</td><td colspan=\"6\" class=\"bad\">no quorum: weight {} of {} is up{}</td></tr>",
            Text(&service.name),
            service.weight,
            service.quorum.weight,
            if service.has_sorry_server { "; the sorry server serves" } else { "" }
        )?;
    }
    for (service, server) in shown {
        let state = if server.is_up { "<td>up</td>" } else { "<td class=\"bad\">down</td>" };
        write!(html, "<tr><td>{}</td><td>{}</td>{state}", Text(&service.name), server.server)?;
        number(html, Span(server.since))?;
        number(html, Count(u64::from(server.weight)))?;
        write!(html, "<td>{}</td><td>", Text(&server.reason))?;
        if let Some(last) =
            server.checks.iter().filter_map(|check| check.last.as_ref()).max_by_key(|last| last.at)
        {
            write!(html, "{}, {:.1} ms", Text(&last.detail), last.took.as_secs_f64() * 1e3)?;
        }
        html.write_str("</td></tr>\n")?;
    }
    if left > 0 {
        let left = Count(left as u64);
        writeln!(html, "<tr><td colspan=\"7\" class=\"dim\">and {left} more, in /api/v1/health</td></tr>")?;
    }
    end(html)
}

fn virtual_servers(html: &mut String, now: &Reading, query: &Query) -> fmt::Result {
    let all = &now.virtual_servers;
    let pages = all.len().div_ceil(VIRTUAL_SERVERS_PER_PAGE).max(1);
    let page = query.page.min(pages);
    let first = (page - 1) * VIRTUAL_SERVERS_PER_PAGE;
    let shown = &all[first..all.len().min(first + VIRTUAL_SERVERS_PER_PAGE)];
    table(
        html,
        "Virtual servers",
        &["Virtual server, real servers", "Forwarding"],
        &[
            "Weight",
            "Active",
            "Inactive",
            "Connections",
            "Packets in",
            "Packets out",
            "Bytes in",
            "Bytes out",
            "Connections/s",
            "Packets/s in",
            "out",
            "Bytes/s in",
            "out",
        ],
        &[],
    )?;
    let mut room = REAL_SERVERS_PER_PAGE;
    for virtual_server in shown {
        virtual_server_rows(html, virtual_server, &mut room)?;
    }
    if all.is_empty() {
        html.write_str("<tr><td colspan=\"15\" class=\"dim\">The configuration has none.</td></tr>\n")?;
    }
    end(html)?;
    if pages > 1 {
        let refresh = query.refresh.map(|seconds| format!("&amp;refresh={seconds}")).unwrap_or_default();
        write!(
            html,
            "<p>Virtual servers {} to {} of {}.",
            first + 1,
            first + shown.len(),
            Count(all.len() as u64)
        )?;
        if page > 1 {
            write!(html, " <a href=\"/?page={}{refresh}\">Back</a>", page - 1)?;
        }
        if page < pages {
            write!(html, " <a href=\"/?page={}{refresh}\">Next</a>", page + 1)?;
        }
        html.write_str("</p>\n")?;
    }
    Ok(())
}

fn virtual_server_rows(html: &mut String, server: &VirtualServerReading, room: &mut usize) -> fmt::Result {
    let sum = |figure: fn(&reading::RealServerReading) -> u32| -> u64 {
        server.real_servers.iter().map(|real| u64::from(figure(real))).sum()
    };
    write!(
        html,
        "<tr class=\"service\"><th colspan=\"3\" scope=\"rowgroup\">{} <span class=\"dim\">",
        Text(&server.name)
    )?;
    let protocol = server.protocol.name();
    match (server.mark, server.port, server.address.is_ipv6()) {
        (Some(mark), ..) => write!(html, "mark {mark}")?,
        (None, 0, _) => write!(html, "{}, every port, {protocol}", server.address)?,
        (None, port, true) => write!(html, "[{}]:{port}, {protocol}", server.address)?,
        (None, port, false) => write!(html, "{}:{port}, {protocol}", server.address)?,
    }
    html.write_str("</span></th>")?;
    number(html, Count(sum(|real| real.active)))?;
    number(html, Count(sum(|real| real.inactive)))?;
    traffic(html, &server.traffic, &server.rates)?;
    let shown = server.real_servers.len().min(*room);
    *room -= shown;
    for real in &server.real_servers[..shown] {
        write!(
            html,
            "<tr><td class=\"real\">{}</td><td>{}</td>",
            Text(&real.socket),
            real.forwarding.name()
        )?;
        number(html, Count(u64::from(real.weight)))?;
        number(html, Count(u64::from(real.active)))?;
        number(html, Count(u64::from(real.inactive)))?;
        traffic(html, &real.traffic, &real.rates)?;
    }
    match server.real_servers.len() - shown {
        0 => Ok(()),
        left => writeln!(
            html,
            "<tr><td class=\"real dim\" colspan=\"15\">and {} more, in the <a href=\"/metrics\">metrics</a></td></tr>",
            Count(left as u64)
        ),
    }
}

/// The last ten cells of a row: totals, then what it is in a second.
fn traffic(html: &mut String, traffic: &Traffic, rates: &Rates) -> fmt::Result {
    number(html, Count(traffic.connections))?;
    number(html, Count(traffic.in_packets))?;
    number(html, Count(traffic.out_packets))?;
    number(html, Octets(traffic.in_bytes))?;
    number(html, Octets(traffic.out_bytes))?;
    number(html, Count(rates.connections))?;
    number(html, Count(rates.in_packets))?;
    number(html, Count(rates.out_packets))?;
    number(html, Octets(rates.in_bytes))?;
    number(html, Octets(rates.out_bytes))?;
    html.write_str("</tr>\n")
}

/// How packets ended.
fn packets(html: &mut String, now: &Reading) -> fmt::Result {
    let row = |html: &mut String, name: &str, count: u64, meaning: &str| {
        let class = if count == 0 { " class=\"zero\"" } else { "" };
        write!(html, "<tr{class}><td>{name}</td>")?;
        number(html, Count(count))?;
        writeln!(html, "<td>{}</td></tr>", Text(meaning))
    };
    table(html, "Forwarded, answered, handed over to control", &["Kind"], &["Packets"], &["Meaning"])?;
    row(html, "forwarded", now.forwarded, "Sent towards a real server or a client.")?;
    row(html, "untracked", now.untracked, "Of those, sent without a connection record: the table was full.")?;
    row(
        html,
        "ipv6_clients_full",
        now.ipv6_clients_full,
        "And without one, of IPv6: there was no room for another client.",
    )?;
    row(html, "waiting", now.waiting, "Wait for their next hop's ARP answer now.")?;
    row(html, "absorbed", now.absorbed, "Taken in without an answer, such as ARP replies to weir.")?;
    for (answer, count) in &now.answers {
        row(html, answer.label(), *count, answer.help())?;
    }
    for (class, count, _) in &now.punts {
        row(html, class.label(), *count, class.help())?;
    }
    end(html)?;
    table(html, "Dropped", &["Reason"], &["Frames"], &["Meaning"])?;
    for (reason, count) in &now.drops {
        row(html, reason.label(), *count, reason.help())?;
    }
    end(html)
}

/// A heading and the top of a table: columns of words, then of numbers, then of words again.
fn table(html: &mut String, title: &str, words: &[&str], numbers: &[&str], more: &[&str]) -> fmt::Result {
    write!(html, "<h2>{title}</h2>\n<div class=\"scroll\"><table><thead><tr>")?;
    for word in words {
        write!(html, "<th scope=\"col\">{word}</th>")?;
    }
    for number in numbers {
        write!(html, "<th scope=\"col\" class=\"n\">{number}</th>")?;
    }
    for word in more {
        write!(html, "<th scope=\"col\">{word}</th>")?;
    }
    html.write_str("</tr></thead><tbody>\n")
}

fn end(html: &mut String) -> fmt::Result {
    html.write_str("</tbody></table></div>\n")
}

fn number(html: &mut String, value: impl Display) -> fmt::Result {
    write!(html, "<td class=\"n\">{value}</td>")
}

/// Text between tags.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number in groups of three digits.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place != 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Bytes with three digits and a decimal unit.
struct Octets(u64);

impl Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1_000 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64;
        let mut unit = 0;
        // 999.5 would be shown as 1000.
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1_000.0;
            unit += 1;
        }
        let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        write!(f, "{value:.decimals$} {}", UNITS[unit])
    }
}

/// A part of a whole, in percent.
struct Share(u64, u64);

impl Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = if self.1 == 0 { 0.0 } else { self.0 as f64 / self.1 as f64 };
        write!(f, "{:.1} %", share * 100.0)
    }
}

/// A duration in its two largest units.
struct Span(Duration);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, seconds) => write!(f, "{seconds} s"),
            (0, 0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (0, hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
            (days, hours, ..) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let counts = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        assert!(counts.iter().all(|(count, text)| Count(*count).to_string() == *text));
        let octets = [
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_600, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (count, text) in octets {
            assert_eq!(Octets(count).to_string(), text);
        }
        assert_eq!(Share(1, 3).to_string(), "33.3 %");
        assert_eq!(Share(0, 0).to_string(), "0.0 %");
        assert_eq!(Span(Duration::from_secs(59)).to_string(), "59 s");
        assert_eq!(Span(Duration::from_secs(3_599)).to_string(), "59 min 59 s");
        assert_eq!(Span(Duration::from_secs(86_399)).to_string(), "23 h 59 min");
        assert_eq!(Span(Duration::from_secs(90_000)).to_string(), "1 d 1 h");
    }

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(Text("<a href=\"x\">&'").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn queries_are_read_or_refused_with_a_reason() {
        assert_eq!(Query::parse(""), Ok(Query { page: 1, refresh: None }));
        assert_eq!(Query::parse("a=b&page=3&refresh=%35"), Ok(Query { page: 3, refresh: Some(5) }));
        for bad in ["page=0", "page", "page=-1", "page=x", "refresh=0", "refresh=3601", "refresh=%3x"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert!(Query::parse(&format!("page={}", usize::MAX)).is_ok());
    }
}
