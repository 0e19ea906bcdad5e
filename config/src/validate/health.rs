//! `[health]`, `[virtual_server.health_check]` and the same table of one real server, `[virtual_server.agent]`.

mod probe;
pub(super) mod program;
mod texts;
mod web;

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::table::{Table, peek, word};
use super::values;
use crate::model::health::{Agent, Health, HealthCheck, OnFail, Timeouts};
use crate::report::{Need, Problem};
use crate::schema::{self, Field, Number, OneTable, Several, SeveralTables, Span, Tabular, Text};
pub(super) use texts::{account, file, own_account};
pub(super) use web::files_of;

/// Checks of one real server at most.
const CHECKS_MAX: usize = 8;

/// `[health]`
pub(crate) fn health(field: &OneTable<schema::Health>, root: &mut Table<'_>) -> Health {
    let Some((Tabular(written), at)) = root.value(field) else { return Health::default() };
    let mut table = root.inner(at);
    let default = Health::default();
    let user = table.parsed(&written.script_user, account);
    let group = table.parsed(&written.script_group, account);
    for (account, need) in [(&user, Need::User as fn(String) -> Need), (&group, Need::Group)] {
        if let Some(account) = account {
            table.report(
                need(account.get_ref().clone()).at(account.span()).help("programs run as them ([health])"),
            );
        }
    }
    let concurrent = i64::from(default.concurrent_max);
    Health {
        script_user: user.map_or(default.script_user, Spanned::into_inner),
        script_group: group.map_or(default.script_group, Spanned::into_inner),
        account: None,
        concurrent_max: table
            .integer(&written.concurrent_max, "concurrent_max", 1..=65_536, concurrent as u32)
            .into_inner(),
    }
}

/// Who programs run as where the file does not say it, if it has programs.
pub(crate) fn default_account(file: &schema::File, health: &Health, problems: &mut Vec<Problem>) {
    let program = |problem: &&Problem| matches!(problem.need, Some(Need::Program(_)));
    let Some(at) = problems.iter().find(program).and_then(|problem| problem.place.clone()) else { return };
    let written = peek(&file.health).map(|(Tabular(written), _)| written);
    let accounts = [
        (
            Need::User(health.script_user.clone()),
            written.is_some_and(|it| it.script_user.is_some()),
            "script_user",
        ),
        (
            Need::Group(health.script_group.clone()),
            written.is_some_and(|it| it.script_group.is_some()),
            "script_group",
        ),
    ];
    for (need, _, key) in accounts.into_iter().filter(|(_, is_written, _)| !is_written) {
        problems.push(need.at(at.span.clone()).help(format!("write `{key}` in [health]")));
    }
}

/// The checks under a key, `None` if it is not written. An empty array is written, and says "none".
pub(crate) fn health_checks(
    field: &SeveralTables<schema::HealthCheck>,
    table: &mut Table<'_>,
) -> Option<Vec<Arc<HealthCheck>>> {
    let (several, at) = table.value(field)?;
    let written: Vec<(&schema::HealthCheck, Span)> = match several {
        Several::One(one) => vec![(one, at.clone())],
        Several::Many(many) => {
            let mut found = Vec::with_capacity(many.0.len());
            for element in &many.0 {
                found.extend(table.element(element).map(|(Tabular(inner), at)| (inner, at)));
            }
            found
        }
    };
    if let Some((_, beyond)) = written.get(CHECKS_MAX) {
        let label = format!("a real server has at most {CHECKS_MAX}");
        table.report(Problem::error("too many health checks").at(beyond.clone(), label));
    }
    // Each real server has all of them.
    let mut checks = Vec::with_capacity(written.len().min(CHECKS_MAX));
    for (check, at) in written.into_iter().take(CHECKS_MAX) {
        checks.extend(health_check(check, &mut table.inner(at)).map(Arc::new));
    }
    Some(checks)
}

fn health_check(written: &schema::HealthCheck, table: &mut Table<'_>) -> Option<HealthCheck> {
    let probe = probe::probe(written, table);
    let interval = table.seconds(&written.interval, "interval", 0.1..=86_400.0, 2.0).into_inner();
    let timeouts = timeouts(written, interval, table);
    within_interval(interval, &written.interval, (timeouts.whole, &written.timeout), table);
    let fall = table.integer(&written.fall, "fall", 1..=255, 3);
    let rise = table.integer(&written.rise, "rise", 1..=255, 1);
    let retry = table.seconds(&written.retry_interval, "retry_interval", 0.1..=86_400.0, interval);
    let jitter = fraction(&written.jitter, "jitter", 0.5, 0.1, table);
    let warmup = table.seconds(&written.warmup, "warmup", 0.0..=86_400.0, interval);
    let address = table.parsed(&written.address, values::routable_host);
    let port = written.port.is_some().then(|| table.integer(&written.port, "port", 1..=65_535, 1));
    let source = table.parsed(&written.source, values::routable_host);
    let via_forwarding = via_forwarding(written, table);
    Some(HealthCheck {
        probe: probe?,
        via_forwarding,
        address: address.map(Spanned::into_inner),
        port: port.map(Spanned::into_inner),
        source: source.map(Spanned::into_inner),
        interval: Duration::from_secs_f64(interval),
        retry_interval: Duration::from_secs_f64(retry.into_inner()),
        jitter_permille: (jitter * 1000.0).round() as u16,
        warmup: Duration::from_secs_f64(warmup.into_inner()),
        timeouts,
        fall: fall.into_inner(),
        rise: rise.into_inner(),
    })
}

/// Such a check goes where clients go and comes from where weir sends, so nothing of that is for the file to say.
fn via_forwarding(written: &schema::HealthCheck, table: &mut Table<'_>) -> bool {
    let words = [("address", false), ("forwarding", true)];
    let via = table.parsed(&written.via, |text| word("way of a check", &words, &[], text));
    let Some(via) = via.filter(|via| *via.get_ref()) else { return false };
    let spans = [
        ("address", written.address.as_deref().map(Spanned::span)),
        ("port", written.port.as_deref().map(Spanned::span)),
        ("source", written.source.as_deref().map(Spanned::span)),
    ];
    for (key, span) in spans {
        if let Some(span) = span {
            let problem = Problem::error(format!("`{key}` of a check by the way of clients' packets"))
                .at(span, "it goes to the virtual server's address and port, from weir's")
                .related(via.span(), "as this says")
                .help("remove one of the two");
            table.report(problem);
        }
    }
    true
}

/// The whole, and each stage within it.
fn timeouts(written: &schema::HealthCheck, interval: f64, table: &mut Table<'_>) -> Timeouts {
    let whole = table.seconds(&written.timeout, "timeout", 0.01..=3_600.0, 1.0);
    // Where the interval has room for it, the stage is most likely meant.
    let help = |stage: f64| match stage <= interval {
        true => format!("write `timeout = {stage}`: it holds for connecting, TLS and the answer together"),
        false => format!("write `timeout = {stage}` and `interval = {stage}`, or a shorter time here"),
    };
    let mut stage = |field: &Field<Number>, key: &str| {
        let read = table.seconds(field, key, 0.01..=3_600.0, *whole.get_ref());
        if read.get_ref() > whole.get_ref() {
            let problem = Problem::error(format!("`{key}` is longer than the whole check"))
                .at(read.span(), format!("must be at most {} seconds, the `timeout`", whole.get_ref()))
                .help(help(*read.get_ref()));
            table.report(problem);
        }
        Duration::from_secs_f64(read.get_ref().min(*whole.get_ref()))
    };
    Timeouts {
        connect: stage(&written.connect_timeout, "connect_timeout"),
        tls: stage(&written.tls_timeout, "tls_timeout"),
        response: stage(&written.response_timeout, "response_timeout"),
        whole: Duration::from_secs_f64(*whole.get_ref()),
    }
}

/// A check that may take longer than its interval is made less often than the file says.
fn within_interval(
    interval: f64,
    interval_written: &Field<Number>,
    (timeout, timeout_written): (Duration, &Field<Number>),
    table: &mut Table<'_>,
) {
    let timeout = timeout.as_secs_f64();
    let written = timeout_written.as_deref().or(interval_written.as_deref()).map(Spanned::span);
    if let Some(at) = written.filter(|_| timeout > interval) {
        let problem = Problem::warning("`timeout` is longer than `interval`")
            .at(at, format!("a silent server is asked every {timeout} s, not every {interval} s"))
            .help(format!("write `timeout = {interval}`, or a longer `interval`"));
        table.report(problem);
    }
}

/// A share of one, from 0 on.
fn fraction(field: &Field<Number>, key: &str, most: f64, default: f64, table: &mut Table<'_>) -> f64 {
    let Some((&Number(number), span)) = table.value(field) else { return default };
    if (0.0..=most).contains(&number) {
        return number;
    }
    let label = format!("must be 0 to {most}, a share of `interval`");
    table.report(Problem::error(format!("`{key}` is out of range")).at(span, label));
    default
}

pub(crate) fn on_fail(field: &Field<Text>, default: OnFail, table: &mut Table<'_>) -> OnFail {
    let words = [("remove", OnFail::Remove), ("quiesce", OnFail::Quiesce)];
    let synonyms = [("inhibit", "quiesce"), ("inhibit_on_failure", "quiesce"), ("drain", "quiesce")];
    let read = table.parsed(field, |text| word("answer to a failure", &words, &synonyms, text));
    read.map_or(default, Spanned::into_inner)
}

pub(crate) fn agent(field: &OneTable<schema::Agent>, table: &mut Table<'_>) -> Option<Arc<Agent>> {
    let (Tabular(written), at) = table.value(field)?;
    let mut table = table.inner(at);
    let port = table.required_integer(&written.port, "port", 1..=65_535, "port = 5480");
    let address = table.parsed(&written.address, values::routable_host);
    let send = table.parsed(&written.send, texts::sent);
    let interval = table.seconds(&written.interval, "interval", 0.1..=86_400.0, 2.0);
    let timeout = table.seconds(&written.timeout, "timeout", 0.01..=3_600.0, 1.0);
    let whole = Duration::from_secs_f64(*timeout.get_ref());
    within_interval(*interval.get_ref(), &written.interval, (whole, &written.timeout), &mut table);
    Some(Arc::new(Agent {
        port: port?.into_inner(),
        address: address.map(Spanned::into_inner),
        send: send.map(Spanned::into_inner).unwrap_or_default(),
        interval: Duration::from_secs_f64(interval.into_inner()),
        timeout: Duration::from_secs_f64(timeout.into_inner()),
    }))
}
