//! What follows from health, for a virtual server as a whole.

use std::time::Duration;

use toml::Spanned;

use super::health::program::hook;
use super::real_servers::{self, Service};
use super::table::{Table, word};
use crate::model::RealServer;
use crate::model::health::{Hooks, OnFail, Passive, Quorum, ServiceHealth, SorryMode};
use crate::report::Problem;
use crate::schema::{self, OneTable, Tabular, VirtualServer};

/// Everything but the checks themselves.
pub(crate) fn service_health(
    written: &VirtualServer,
    service: &Service<'_>,
    table: &mut Table<'_>,
) -> ServiceHealth {
    let words = [("replace", SorryMode::Replace), ("add", SorryMode::Add)];
    let mode = table.parsed(&written.sorry_mode, |text| word("sorry mode", &words, &[], text));
    let sorry_server = sorry_server(&written.sorry_server, service, table);
    if let (Some(mode), None) = (&mode, &written.sorry_server) {
        let problem = Problem::warning("`sorry_mode` has no effect")
            .at(mode.span(), "there is no [virtual_server.sorry_server]")
            .help("remove the line");
        table.report(problem);
    }
    ServiceHealth {
        alpha: table.boolean(&written.alpha, false).into_inner(),
        omega: table.boolean(&written.omega, false).into_inner(),
        quorum: quorum(written, table),
        sorry_server,
        sorry_mode: mode.map_or(SorryMode::Replace, Spanned::into_inner),
        hooks: Hooks {
            up: hook(&written.notify_up, table),
            down: hook(&written.notify_down, table),
            quorum_up: hook(&written.quorum_up, table),
            quorum_down: hook(&written.quorum_down, table),
        },
        passive: passive(&written.passive, table),
    }
}

/// Passive health sees answers, and only those of NAT come through weir.
pub(crate) fn passive_sees_answers(
    written: &VirtualServer,
    real_servers: &[RealServer],
    table: &mut Table<'_>,
) {
    let is_nat = |real: &RealServer| real.forwarding == crate::model::Forwarding::Nat;
    if let Some(at) = written.passive.as_deref().map(Spanned::span)
        && !real_servers.is_empty()
        && !real_servers.iter().any(is_nat)
    {
        let problem = Problem::warning("passive health has nothing to see")
            .at(at, "answers of dr and tun real servers go past weir")
            .help("write a [virtual_server.health_check]; passive health is for \"nat\"");
        table.report(problem);
    }
}

fn quorum(written: &VirtualServer, table: &mut Table<'_>) -> Quorum {
    let weight = table.integer::<u32>(&written.quorum, "quorum", 1..=1_000_000_000, 1);
    let hysteresis = table.integer::<u32>(&written.hysteresis, "hysteresis", 0..=1_000_000_000, 0);
    if hysteresis.get_ref() >= weight.get_ref() && written.hysteresis.is_some() {
        let problem = Problem::error("`hysteresis` is not below `quorum`")
            .at(hysteresis.span(), format!("must be less than {}, the quorum", weight.get_ref()))
            .help("the quorum is gained at quorum + hysteresis and lost below quorum - hysteresis");
        table.report(problem);
    }
    Quorum { weight: weight.into_inner(), hysteresis: hysteresis.into_inner() }
}

fn sorry_server(
    field: &OneTable<schema::RealServer>,
    service: &Service<'_>,
    table: &mut Table<'_>,
) -> Option<RealServer> {
    let (Tabular(written), at) = table.value(field)?;
    let mut table = table.inner(at);
    let idle: [(&str, Option<_>); 6] = [
        ("health_check", written.health_check.as_deref().map(Spanned::span)),
        ("agent", written.agent.as_deref().map(Spanned::span)),
        ("weight_file", written.weight_file.as_deref().map(Spanned::span)),
        ("notify_up", written.notify_up.as_deref().map(Spanned::span)),
        ("notify_down", written.notify_down.as_deref().map(Spanned::span)),
        ("on_fail", written.on_fail.as_deref().map(Spanned::span)),
    ];
    for (key, span) in idle {
        if let Some(span) = span {
            let problem = Problem::error(format!("`{key}` of a sorry server"))
                .at(span, "a sorry server is not checked: nothing stands behind it")
                .help("remove it");
            table.report(problem);
        }
    }
    let mut server = real_servers::alone(written, service, &mut table)?;
    server.health_checks.clear();
    server.agent = None;
    server.hooks = None;
    server.on_fail = OnFail::default();
    if server.weight == 0 {
        let label = "the sorry server would get no connections";
        let at = written.weight.as_deref().map_or(table.at.clone(), Spanned::span);
        table.report(Problem::error("a sorry server without weight").at(at, label));
    }
    Some(server)
}

fn passive(field: &OneTable<schema::Passive>, table: &mut Table<'_>) -> Option<Passive> {
    let (Tabular(written), at) = table.value(field)?;
    let mut table = table.inner(at);
    let window = table.seconds(&written.window, "window", 2.0..=300.0, 10.0);
    let connections = table.integer(&written.connections_min, "connections_min", 1..=1_000_000_000, 20);
    let failures = table.integer(&written.failures_percent, "failures_percent", 1..=100, 50);
    let ejection = table.seconds(&written.ejection, "ejection", 1.0..=86_400.0, 30.0);
    let longest = ejection.get_ref().max(300.0);
    let ejection_max = table.seconds(&written.ejection_max, "ejection_max", 1.0..=604_800.0, longest);
    if ejection_max.get_ref() < ejection.get_ref() {
        let problem = Problem::error("`ejection_max` is shorter than `ejection`")
            .at(ejection_max.span(), format!("must be at least {} seconds", ejection.get_ref()));
        table.report(problem);
    }
    let ejected = table.integer(&written.ejected_percent_max, "ejected_percent_max", 0..=100, 50);
    Some(Passive {
        window: Duration::from_secs_f64(window.into_inner()),
        connections_min: connections.into_inner(),
        failures_percent: failures.into_inner(),
        ejection: Duration::from_secs_f64(ejection.into_inner()),
        ejection_max: Duration::from_secs_f64(ejection_max.into_inner()),
        ejected_percent_max: ejected.into_inner(),
    })
}
