//! `TCP_CHECK` and its kin.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use toml_edit::Value;

use super::blocks::Node;
use super::map::Map;
use super::servers::Shared;
use super::source::{Place, Plain};
use super::write::Item;

/// What a virtual server, a real server or a check says of times; the inner goes before the outer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timing {
    delay_loop: Option<f64>,
    connect_timeout: Option<f64>,
    retry: Option<i64>,
    delay_before_retry: Option<f64>,
    warmup: Option<f64>,
}

/// What `fall` may be, less one.
const RETRIES_MAX: i64 = 254;
/// Seconds between checks, and of one.
const INTERVAL: RangeInclusive<f64> = 0.1..=86_400.0;
const TIMEOUT: RangeInclusive<f64> = 0.01..=3600.0;

/// A kind of check of keepalived's.
struct Kind {
    word: &'static str,
    name: &'static str,
    /// Further tries and seconds between them, where the file does not say.
    retry: i64,
    delay_before_retry: Option<f64>,
    /// Stages that each take `connect_timeout`.
    stages: &'static [&'static str],
}

static KINDS: [Kind; 8] = [
    Kind {
        word: "TCP_CHECK",
        name: "tcp",
        retry: 1,
        delay_before_retry: Some(1.0),
        stages: &["connect_timeout"],
    },
    Kind {
        word: "HTTP_GET",
        name: "http",
        retry: 1,
        delay_before_retry: Some(3.0),
        stages: &["connect_timeout", "response_timeout"],
    },
    Kind {
        word: "SSL_GET",
        name: "https",
        retry: 1,
        delay_before_retry: Some(3.0),
        stages: &["connect_timeout", "tls_timeout", "response_timeout"],
    },
    Kind {
        word: "SMTP_CHECK",
        name: "smtp",
        retry: 1,
        delay_before_retry: Some(1.0),
        stages: &["connect_timeout", "response_timeout"],
    },
    Kind { word: "DNS_CHECK", name: "dns", retry: 3, delay_before_retry: None, stages: &[] },
    Kind { word: "UDP_CHECK", name: "udp", retry: 1, delay_before_retry: Some(1.0), stages: &[] },
    Kind { word: "PING_CHECK", name: "ping", retry: 1, delay_before_retry: Some(1.0), stages: &[] },
    Kind { word: "MISC_CHECK", name: "exec", retry: 0, delay_before_retry: Some(1.0), stages: &[] },
];

impl Map {
    /// Whether the word is one of times.
    pub(super) fn timing_word(&mut self, node: &Node, timing: &mut Timing, item: &mut Item) -> bool {
        let (key, bounds) = match node.word.as_str() {
            "delay_loop" => (&mut timing.delay_loop, INTERVAL),
            "connect_timeout" => (&mut timing.connect_timeout, TIMEOUT),
            "delay_before_retry" => (&mut timing.delay_before_retry, INTERVAL),
            "warmup" => (&mut timing.warmup, 0.0..=86_400.0),
            "retry" => {
                timing.retry = self.retries(node, item).or(timing.retry);
                return true;
            }
            _ => return false,
        };
        let may_be_zero = matches!(node.word.as_str(), "delay_before_retry" | "warmup");
        let secs = self.within(node, item, bounds, |it: &f64| {
            it.is_finite() && (*it > 0.0 || may_be_zero && *it == 0.0)
        });
        *key = secs.or(*key);
        true
    }

    fn retries(&mut self, node: &Node, item: &mut Item) -> Option<i64> {
        self.within(node, item, 0..=RETRIES_MAX, |it| *it > 0)
    }

    /// A check, if it is one.
    pub(super) fn check(
        &mut self,
        node: &Node,
        shared: &Shared,
        port: u16,
        server: &mut Item,
        checks: &mut Vec<Item>,
    ) {
        let Some(kind) = KINDS.iter().find(|kind| kind.word == node.word) else {
            if node.word.ends_with("_CHECK") {
                self.other(node, server);
            }
            return;
        };
        self.carry_of(node, server, 0);
        let mut made = Made { host: shared.host.clone(), timing: shared.timing, ..Made::default() };
        let mut item = Item::new(
            "[virtual_server.real_server.health_check]",
            format!("check {}", node.word),
            Some(node.place),
        );
        item.set("type", kind.name);
        self.words_of_check(node, kind, &mut made, port, &mut item);
        if kind.name == "exec" && !item.keys.iter().any(|key| key.name == "command") {
            self.leave(node, server, "it names no program; the real server is not checked by it");
            return;
        }
        if port == 0
            && !["exec", "ping"].contains(&kind.name)
            && !item.keys.iter().any(|key| key.name == "port")
        {
            self.leave(
                node,
                server,
                "it needs a connect_port, since the real server has no port; it is not checked by it",
            );
            return;
        }
        let has_port = item.keys.iter().any(|key| key.name == "port");
        if port != shared.port && !has_port && !["exec", "ping"].contains(&kind.name) {
            item.set("port", i64::from(port));
        }
        self.times(node, kind, &made, &mut item);
        let made = self.by_url(made, item);
        if made.is_empty() {
            self.leave(node, server, "keepalived ignores a check without a `url` that has a `path`");
        }
        checks.extend(made);
        if checks.len() > 1 {
            checks.iter_mut().for_each(|it| it.head = "[[virtual_server.real_server.health_check]]");
        }
    }

    fn words_of_check<'a>(
        &mut self,
        block: &'a Node,
        kind: &Kind,
        made: &mut Made<'a>,
        port: u16,
        item: &mut Item,
    ) {
        for node in block.below() {
            let is_web = matches!(kind.name, "http" | "https");
            match node.word.as_str() {
                "connect_port" | "connect_ip" | "connect_timeout" | "bindto" | "bind_to"
                    if kind.name == "exec" =>
                {
                    self.leave(node, item, "keepalived does not know it in MISC_CHECK and ignores it");
                }
                "connect_port" if kind.name == "ping" => self.leave(node, item, "a ping goes to no port"),
                "connect_port" => {
                    if let Some(number) = self.number::<i64>(node, item, |it| (1..=65_535).contains(it))
                        && number != i64::from(port)
                    {
                        item.set("port", number);
                    }
                }
                "connect_ip" => self.address(node, "address", item),
                "bindto" | "bind_to" => self.address(node, "source", item),
                "nb_get_retry" if is_web => {
                    made.timing.retry = self.retries(node, item).or(made.timing.retry);
                }
                "nb_get_retry" => self.leave(
                    node,
                    item,
                    format!("keepalived does not know it in {} and ignores it: `retry` is meant", kind.word),
                ),
                "virtualhost" if is_web => {
                    self.carry_of(node, item, 1);
                    made.host = node.value(0).map(str::to_owned);
                }
                "url" if is_web => {
                    self.carry_of(node, item, 0);
                    made.urls.push(node);
                }
                "enable_sni" if kind.name == "https" => {
                    made.sni = self.switch(node, item).then_some(node);
                }
                "sni_name" if kind.name == "https" => {
                    self.carry_of(node, item, 1);
                    made.sni_name = node.value(0).map(|name| (node, name.to_owned()));
                }
                "host" if kind.name == "smtp" && made.has_host => {
                    self.leave(
                        node,
                        item,
                        "a check asks one host, and the one that stands before it was taken",
                    );
                }
                "host" if kind.name == "smtp" => {
                    made.has_host = true;
                    self.carry_of(node, item, 0);
                    self.words_of_check(node, kind, made, port, item);
                }
                "helo_name" if kind.name == "smtp" => self.text(node, "helo", item),
                "name" if kind.name == "dns" => self.text(node, "query", item),
                "type" if kind.name == "dns" => {
                    self.carry_of(node, item, 1);
                    item.set("record", node.value(0).unwrap_or("SOA").to_ascii_uppercase());
                }
                "payload" if kind.name == "udp" => self.text(node, "send_hex", item),
                "require_reply" if kind.name == "udp" => {
                    self.carry_of(node, item, 1);
                    item.set("require_reply", true);
                    if let Some(pattern) = node.value(0) {
                        item.set("expect_hex", pattern);
                    }
                }
                "misc_path" if kind.name == "exec" => {
                    if let Some(program) = self.program(node, item) {
                        item.set("command", program);
                    }
                }
                "misc_timeout" if kind.name == "exec" => {
                    let secs = self.within(node, item, TIMEOUT, |it| it.is_finite() && *it >= 0.0);
                    made.program_timeout = secs.or(made.program_timeout);
                }
                "misc_dynamic" if kind.name == "exec" => {
                    self.carry_of(node, item, 0);
                    item.set("dynamic_weight", true);
                }
                "user" if kind.name == "exec" => self.script_user(node),
                "alpha" => {
                    self.leave(node, item, "write it into the virtual server: it holds for all its checks")
                }
                "fwmark" => self.leave(node, item, "packets of checks have no mark"),
                _ if self.timing_word(node, &mut made.timing, item) => {}
                _ => self.other(node, item),
            }
        }
    }

    fn address(&mut self, node: &Node, key: &'static str, item: &mut Item) {
        match node.value(0).and_then(|text| text.parse::<std::net::IpAddr>().ok()) {
            Some(address) => {
                self.carry_of(node, item, 1);
                item.set(key, address.to_string());
            }
            None => self.leave(node, item, "this is no address"),
        }
    }

    fn text(&mut self, node: &Node, key: &'static str, item: &mut Item) {
        match node.value(0) {
            Some(text) => {
                self.carry_of(node, item, 1);
                item.put(node, key, text);
            }
            None => self.leave(node, item, "it says nothing"),
        }
    }

    /// One check, or one for each host that its pages are asked of.
    fn by_url(&mut self, made: Made<'_>, mut item: Item) -> Vec<Item> {
        let is_web = item
            .keys
            .iter()
            .any(|key| key.name == "type" && matches!(key.value.as_str(), Some("http" | "https")));
        if !is_web {
            return vec![item];
        }
        let mut pages = Vec::new();
        for url in &made.urls {
            let Some(page) = self.page(url, &mut item) else { continue };
            pages.push(Page { host: page.host.or_else(|| made.host.clone()), ..page });
        }
        if let Some(node) = made.sni.filter(|_| pages.iter().all(|page| page.host.is_none())) {
            self.remark(node, &mut item, "no virtualhost is there whose name could be sent");
        }
        let mut hosts: Vec<(&Option<String>, Vec<&Page>)> = Vec::new();
        let mut known = HashMap::new();
        for page in &pages {
            let at = *known.entry(&page.host).or_insert_with(|| {
                hosts.push((&page.host, Vec::new()));
                hosts.len() - 1
            });
            hosts[at].1.push(page);
        }
        let mut checks = Vec::new();
        for (host, of_host) in hosts {
            let mut check = item.clone();
            // They stand at the first one.
            item = item.without_remarks();
            if let Some(host) = host {
                check.set("host", host.as_str());
            }
            match (&made.sni_name, host) {
                (Some((node, name)), _) => check.put(node, "tls_server_name", name.as_str()),
                (None, Some(host)) => {
                    if let Some(node) = made.sni {
                        check.put(node, "tls_server_name", host.as_str());
                    }
                }
                _ => {}
            }
            match of_host[..] {
                [page] => {
                    check.set("path", page.path.as_str());
                    for (key, value) in &page.keys {
                        check.set(key, value.clone());
                    }
                    if let Some(key) = check.keys.iter_mut().find(|key| key.name == "expect_body_regex") {
                        key.places.extend(page.regex);
                    }
                }
                _ => {
                    for page in of_host {
                        let mut table =
                            Item::new("[[virtual_server.health_check.url]]", "url".to_owned(), check.place);
                        table.set("path", page.path.as_str());
                        for (key, value) in &page.keys {
                            table.set(key, value.clone());
                        }
                        check.below.push(table);
                    }
                }
            }
            checks.push(as_inline(check));
        }
        checks
    }

    fn page(&mut self, url: &Node, item: &mut Item) -> Option<Page> {
        if !url.below().iter().any(|node| node.word == "path" && node.value(0).is_some()) {
            self.leave(url, item, "it has no `path`, and keepalived ignores it");
            return None;
        }
        let mut page = Page::default();
        for node in url.below() {
            match node.word.as_str() {
                "path" => {
                    self.carry_of(node, item, 1);
                    page.path = node.value(0).unwrap_or("/").to_owned();
                }
                "status_code" => {
                    let codes = node.values.iter().map(|value| value.text.as_str());
                    let is_good = |code: &&str| {
                        code.split('-').all(|it| it.parse::<u16>().is_ok_and(|it| (100..600).contains(&it)))
                    };
                    if node.values.is_empty() || !codes.clone().all(|code| is_good(&code)) {
                        self.leave(node, item, "no codes from 100 to 599");
                        continue;
                    }
                    self.carry(node);
                    let codes =
                        codes.map(|code| code.parse::<i64>().map_or_else(|_| Value::from(code), Value::from));
                    // Those of several lines add up.
                    match page.keys.iter_mut().find(|(key, _)| *key == "status") {
                        Some((_, Value::Array(there))) => there.extend(codes),
                        _ => page.keys.push(("status", Value::Array(codes.collect()))),
                    }
                }
                "digest" => match node.value(0) {
                    Some(digest) if digest.len() == 32 && digest.bytes().all(|it| it.is_ascii_hexdigit()) => {
                        self.carry_of(node, item, 1);
                        page.set("expect_md5", digest);
                    }
                    _ => self.leave(node, item, "a digest is 32 hexadecimal digits"),
                },
                "regex" => {
                    match node.value(0).filter(|text| !text.is_empty()) {
                        Some(regex) => {
                            self.remark(node, item, "its expressions are PCRE's; weir's have no look-around and no back references");
                            page.set("expect_body_regex", regex);
                            page.regex = Some(node.place);
                        }
                        None => self.leave(node, item, "it says nothing"),
                    }
                }
                "virtualhost" => {
                    self.carry_of(node, item, 1);
                    page.host = node.value(0).map(str::to_owned);
                }
                _ => self.other(node, item),
            }
        }
        if !page.path.starts_with('/') {
            let told = Plain(&page.path).to_string();
            self.remark(
                url,
                item,
                format!("the path `{told}` does not begin with a slash; one was put before it"),
            );
            page.path.insert(0, '/');
        }
        Some(page)
    }
}

/// What is said of a check as a whole.
#[derive(Default)]
struct Made<'a> {
    timing: Timing,
    host: Option<String>,
    /// A block `host` was read.
    has_host: bool,
    sni: Option<&'a Node>,
    sni_name: Option<(&'a Node, String)>,
    urls: Vec<&'a Node>,
    program_timeout: Option<f64>,
}

#[derive(Default)]
struct Page {
    host: Option<String>,
    path: String,
    keys: Vec<(&'static str, Value)>,
    /// The line of its expression.
    regex: Option<Place>,
}

impl Page {
    /// The last one counts.
    fn set(&mut self, name: &'static str, value: &str) {
        self.keys.retain(|(key, _)| *key != name);
        self.keys.push((name, value.into()));
    }
}

/// Pages as an array of inline tables: the heads of their own would have to know where the check stands.
fn as_inline(mut check: Item) -> Item {
    if check.below.is_empty() {
        return check;
    }
    let pages = check.below.drain(..).map(|page| {
        let keys = page.keys.into_iter().map(|key| (key.name, key.value));
        Value::InlineTable(keys.collect())
    });
    let pages = Value::Array(pages.collect());
    check.set("url", pages);
    check
}

impl Map {
    /// The keys of times.
    fn times(&mut self, node: &Node, kind: &Kind, made: &Made<'_>, item: &mut Item) {
        let Timing { delay_loop, connect_timeout, retry, delay_before_retry, warmup } = made.timing;
        let interval = delay_loop.unwrap_or(60.0);
        match delay_loop {
            Some(_) => item.set("interval", interval),
            None => item.set_remarked(
                "interval",
                interval,
                "as keepalived without delay_loop; weir's default is 2 s",
            ),
        }
        let retries = retry.unwrap_or(kind.retry);
        item.set("fall", retries + 1);
        let between = delay_before_retry.or(kind.delay_before_retry).unwrap_or(interval);
        if retries > 0 && (between - interval).abs() > 1e-9 {
            item.set("retry_interval", between);
        }
        let one = connect_timeout.unwrap_or(5.0);
        let pages = made.urls.len().clamp(1, 16) as f64;
        let whole = match kind.name {
            "exec" => made.program_timeout.unwrap_or(interval),
            _ => one * kind.stages.len().max(1) as f64 * pages,
        };
        let most = *TIMEOUT.end();
        item.set("timeout", whole.min(most));
        if whole > most {
            self.remark(
                node,
                item,
                format!("a check of weir's takes {most} s at most, where {whole} are allowed"),
            );
        }
        if kind.stages.len() > 1 {
            for stage in kind.stages {
                item.set(stage, one);
            }
        }
        if let Some(warmup) = warmup {
            item.set("warmup", warmup);
        }
    }
}
