//! `[vrrp.auth_hmac]`

use std::collections::HashMap;
use std::time::Duration;

use toml::Spanned;

use super::super::fault::Fault;
use super::super::table::{Table, word};
use crate::model::{VrrpHmac, VrrpHmacKey, VrrpHmacMode};
use crate::report::Problem;
use crate::schema::{self, OneTable, Span, Tabular};

/// Bytes of a key: keepalived's bounds.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;
/// Keys of an instance: a rotation has two at a time.
const KEYS_MAX: usize = 16;
/// The least window that is taken where the file says none, in seconds, and the most that it may say.
const WINDOW_LEAST: f64 = 5.0;
const WINDOW_MAX: f64 = 300.0;

pub(super) fn auth_hmac(
    field: &OneTable<schema::VrrpHmac>,
    authentication: Option<Span>,
    interval: Duration,
    table: &mut Table<'_>,
) -> Option<VrrpHmac> {
    let (Tabular(written), at) = table.value(field)?;
    if let Some(span) = authentication {
        let problem = Problem::error("two kinds of authentication")
            .at(at.clone(), "this one is of both versions, and checks who sent it and when")
            .related(span, "and this is of version 2")
            .help("remove [vrrp.authentication], on every director of the group");
        table.report(problem);
    }
    let mut table = table.inner(at);
    let modes = [VrrpHmacMode::Enforce, VrrpHmacMode::Permissive, VrrpHmacMode::ReceiveOnly];
    let modes = modes.map(|mode| (mode.name(), mode));
    let mode = table.word(&written.mode, "mode", &modes, &[("receive_only", "receive-only")]);
    let keys = keys(written, &mut table);
    let active_key = active(written, &keys, &mut table);
    let window = window(written, interval, &mut table);
    Some(VrrpHmac {
        mode: mode.map_or(VrrpHmacMode::Enforce, Spanned::into_inner),
        active_key: active_key?,
        keys: keys.into_iter().map(Spanned::into_inner).collect(),
        time_window: window,
    })
}

fn keys(written: &schema::VrrpHmac, table: &mut Table<'_>) -> Vec<Spanned<VrrpHmacKey>> {
    let Some((list, at)) = table.required(&written.keys, "keys", "keys = [\"1 hex:...\"]") else {
        return Vec::new();
    };
    let keys = table.list(&written.keys, key);
    let mut first: HashMap<u8, Span> = HashMap::new();
    for key in &keys {
        if let Some(before) = first.insert(key.get_ref().id, key.span()) {
            let problem = Problem::error("duplicate id of a key")
                .at(key.span(), "given again here")
                .related(before, "given first here")
                .help("give each key a number of its own, the same on every director");
            table.report(problem);
        }
    }
    let is_wrong =
        if list.0.is_empty() { Some("none") } else { (list.0.len() > KEYS_MAX).then_some("too many") };
    if let Some(how) = is_wrong {
        let label = format!("{how}; 1 to {KEYS_MAX} keys, each as \"1 hex:...\" or \"1 passphrase\"");
        table.report(Problem::error("no such number of keys is possible").at(at, label));
    }
    keys
}

/// `ID hex:DIGITS`, `ID PASSPHRASE`. Faults do not show it.
fn key(text: &str) -> Result<VrrpHmacKey, Fault> {
    let help = "write a number from 1 to 255, a blank, and `hex:` with 64 digits of `openssl rand -hex 32`";
    let wrong = |label: String| Fault::new("no key of `auth_hmac`", label).help(help);
    let (id, secret) = text.trim().split_once(' ').ok_or_else(|| wrong("no id before it".to_owned()))?;
    let id = id
        .parse::<u8>()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| wrong("its id is not 1 to 255".to_owned()))?;
    let secret = match secret.trim().strip_prefix("hex:") {
        Some(digits) => bytes(digits).ok_or_else(|| wrong("no pairs of hexadecimal digits".to_owned()))?,
        None => secret.trim().as_bytes().to_vec(),
    };
    if !KEY_BYTES.contains(&secret.len()) {
        let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
        return Err(wrong(format!("{} bytes; must be {least} to {most}", secret.len())));
    }
    Ok(VrrpHmacKey { id, secret })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits.chars().map(|it| it.to_digit(16).map(|it| it as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The id of the key that is sent; the only key's where none is written.
fn active(written: &schema::VrrpHmac, keys: &[Spanned<VrrpHmacKey>], table: &mut Table<'_>) -> Option<u8> {
    if let ([only], None) = (keys, &written.active_key) {
        return Some(only.get_ref().id);
    }
    let example = "active_key = 1";
    let active = table.required_integer::<u8>(&written.active_key, "active_key", 1..=255, example)?;
    if !keys.is_empty() && keys.iter().all(|key| key.get_ref().id != *active.get_ref()) {
        let known: Vec<String> = keys.iter().map(|key| key.get_ref().id.to_string()).collect();
        let problem = Problem::error("the key that is sent is not there")
            .at(active.span(), format!("`keys` has {}", known.join(", ")))
            .help("write the id of one of the keys");
        table.report(problem);
    }
    Some(active.into_inner())
}

/// How far clocks may be from each other; `None`: they are not compared.
fn window(written: &schema::VrrpHmac, interval: Duration, table: &mut Table<'_>) -> Option<Duration> {
    let kinds = [("time", true), ("monotonic", false)];
    let by_time = table.parsed(&written.anti_replay, |text| word("protection", &kinds, &[], text));
    let default = (3.0 * interval.as_secs_f64()).clamp(WINDOW_LEAST, WINDOW_MAX);
    let seconds = table.seconds(&written.time_window, "time_window", 1.0..=WINDOW_MAX, default);
    if by_time.is_none_or(|by_time| by_time.into_inner()) {
        return Some(Duration::from_secs_f64(*seconds.get_ref()));
    }
    if written.time_window.is_some() {
        let problem = Problem::error("`time_window` without `anti_replay = \"time\"`")
            .at(seconds.span(), "clocks are not compared")
            .help("remove the line, or write `anti_replay = \"time\"`");
        table.report(problem);
    }
    None
}
