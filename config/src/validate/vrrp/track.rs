//! `[[vrrp.track]]`

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::super::fault::Fault;
use super::super::health::{account, program};
use super::super::ports::ReadPort;
use super::super::table::{Table, tables};
use super::super::values;
use super::names::{Known, port_index};
use crate::model::{VrrpScript, VrrpTrack, VrrpTracked};
use crate::report::{Need, Problem, quoted};
use crate::schema::{self, Field, Span, Tables, Text};
use crate::secret::program_of;

/// Trackers of an instance: each is looked at ten times a second.
const TRACKERS_MAX: usize = 32;
/// Bytes of a process's name, and of a script's.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn trackers(
    field: &Tables<schema::VrrpTrack>,
    ports: &[ReadPort],
    known: &mut Known,
    table: &mut Table<'_>,
) -> Vec<VrrpTrack> {
    let written = tables(field, "vrrp.track", table);
    if let Some((_, at)) = written.get(TRACKERS_MAX) {
        let label = format!("{} of them; at most {TRACKERS_MAX}", written.len());
        table.report(Problem::error("too many trackers").at(at.clone(), label));
    }
    let one =
        |(written, at): (&schema::VrrpTrack, Span)| tracker(written, ports, known, &mut table.inner(at));
    written.into_iter().take(TRACKERS_MAX).filter_map(one).collect()
}

fn tracker(
    written: &schema::VrrpTrack,
    ports: &[ReadPort],
    known: &mut Known,
    table: &mut Table<'_>,
) -> Option<VrrpTrack> {
    let port = table.parsed(&written.port, |text| port_index(text, ports));
    let server = table.parsed(&written.virtual_server, |text| known.servers.named(text));
    let file = table.parsed(&written.file, values::path);
    let script = script(written, known, table);
    let process = process(written, table);
    let schema::VrrpTrack { port: of_port, virtual_server, file: of_file, .. } = written;
    let given = [
        of_port.is_some(),
        virtual_server.is_some(),
        of_file.is_some(),
        written.script.is_some(),
        written.process.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        let label = "needs one of `port`, `virtual_server`, `file`, `script` and `process`";
        let problem = Problem::error("a tracker looks at one thing")
            .at(table.at.clone(), label)
            .help("write a [[vrrp.track]] for each");
        table.report(problem);
    }
    let weight = weight(written, table);
    let what = match (port, server, file) {
        (Some(port), _, _) => VrrpTracked::Port(port.into_inner()),
        (_, Some(server), _) => VrrpTracked::VirtualServer(server.into_inner()),
        (_, _, Some(file)) => VrrpTracked::File(file.into_inner()),
        (None, None, None) => script.or(process)?,
    };
    Some(VrrpTrack { what, weight })
}

fn weight(written: &schema::VrrpTrack, table: &mut Table<'_>) -> Option<i16> {
    written.weight.as_ref()?;
    let weight = table.integer::<i16>(&written.weight, "weight", -253..=253, 1);
    if *weight.get_ref() == 0 {
        let problem = Problem::error("a weight of 0 changes nothing")
            .at(weight.span(), "must be -253 to -1 or 1 to 253")
            .help("leave `weight` out to have the instance in fault while this is down");
        table.report(problem);
    }
    Some(weight.into_inner())
}

/// A key that says nothing without another one.
fn idle(key: &str, span: Option<Span>, of: &str, table: &mut Table<'_>) {
    if let Some(span) = span {
        let problem = Problem::error(format!("`{key}` without `{of}`"))
            .at(span, format!("only `{of}` has it"))
            .help("remove the line");
        table.report(problem);
    }
}

fn span<T>(field: &Field<T>) -> Option<Span> {
    field.as_deref().map(Spanned::span)
}

fn script(written: &schema::VrrpTrack, known: &mut Known, table: &mut Table<'_>) -> Option<VrrpTracked> {
    let interval = table.seconds(&written.interval, "interval", 0.1..=86_400.0, 1.0).into_inner();
    let timeout = table.seconds(&written.timeout, "timeout", 0.1..=86_400.0, interval);
    let rise = table.integer::<u32>(&written.rise, "rise", 1..=1_000_000, 1);
    let fall = table.integer::<u32>(&written.fall, "fall", 1..=1_000_000, 1);
    let init_fail = table.boolean(&written.init_fail, false);
    let (user, group) =
        (someone(&written.user, Need::User, table), someone(&written.group, Need::Group, table));
    if written.user.is_none() && written.script.is_some() {
        idle("group", span(&written.group), "user", table);
    }
    if written.script.is_none() {
        let keys = [
            ("name", span(&written.name)),
            ("interval", span(&written.interval)),
            ("timeout", span(&written.timeout)),
            ("rise", span(&written.rise)),
            ("fall", span(&written.fall)),
            ("init_fail", span(&written.init_fail)),
            ("user", span(&written.user)),
            ("group", span(&written.group)),
        ];
        keys.into_iter().for_each(|(key, span)| idle(key, span, "script", table));
        return None;
    }
    let runner = user.as_deref().map(|user| (user, group.as_deref()));
    let name = table.parsed(&written.name, name);
    let command = program::command_of(&written.script, runner, table)?;
    let at = name.as_ref().map_or(command.span(), Spanned::span);
    let command = command.into_inner();
    // Somebody may have written the arguments, and a secret among them, into the same word.
    let program = || program_of(command.first().map_or("", String::as_str)).to_owned();
    let name = name.map_or_else(program, Spanned::into_inner);
    let script = VrrpScript {
        name,
        command,
        interval: Duration::from_secs_f64(interval),
        timeout: Duration::from_secs_f64(timeout.into_inner()),
        rise: rise.into_inner(),
        fall: fall.into_inner(),
        init_fail: init_fail.into_inner(),
        user,
        group,
        account: None,
    };
    Some(VrrpTracked::Script(unique(known, script, at, table)))
}

/// The script of this name: equal ones are one, and those that are not have names of their own.
fn unique(known: &mut Known, script: VrrpScript, at: Span, table: &mut Table<'_>) -> Arc<VrrpScript> {
    let (first, former) =
        known.scripts.entry(script.name.clone()).or_insert_with(|| (at.clone(), Arc::new(script.clone())));
    if **former != script {
        let problem = Problem::error("two tracked scripts of one name")
            .at(at, "this one is run in another way")
            .related(first.clone(), "the first one")
            .help("write a `name`: without it, the name of a script is the path of its program");
        table.report(problem);
    }
    former.clone()
}

fn name(text: &str) -> Result<String, Fault> {
    let is_good = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    let label = format!("1 to {NAME_BYTES_MAX} bytes without control characters are needed");
    if is_good {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(format!("invalid name {}", quoted(text)), label))
    }
}

fn someone(field: &Field<Text>, need: fn(String) -> Need, table: &mut Table<'_>) -> Option<String> {
    let named = table.parsed(field, account)?;
    table.report(need(named.get_ref().clone()).at(named.span()).help("the script runs as it"));
    Some(named.into_inner())
}

fn process(written: &schema::VrrpTrack, table: &mut Table<'_>) -> Option<VrrpTracked> {
    let quorum = table.integer::<u32>(&written.quorum, "quorum", 1..=4_194_304, 1).into_inner();
    if written.process.is_none() {
        idle("quorum", span(&written.quorum), "process", table);
        return None;
    }
    let name = table.parsed(&written.process, |text| match text.contains('/') {
        false => name(text),
        true => Err(Fault::new("not a process's name", "the name alone is compared, without its path")
            .help("write such as \"nginx\": `ps -e` shows the names")),
    })?;
    Some(VrrpTracked::Process { name: name.into_inner(), quorum })
}
