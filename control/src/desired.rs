//! What weir is to serve: the file as it was read last, and the edits since.
//!
//! A reload wins: the edits since the last one are dropped, and the log says which. Who asks to keep them has them made again on the
//! new file; one that does not fit any more is dropped all the same.

use serde_json::Value;
use weir_config::edit::{Edit, Editor, Id, Refusal, Shown, Since, Staged};
use weir_config::model::{Config, Identity};

/// Edits that are named one by one when they are dropped.
const NAMED_MAX: usize = 100;

/// See the module. The configuration that comes of it is beside it.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    editor: Editor,
    since: Since,
}

/// Edits that a reload dropped.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) count: usize,
    /// The first of them, in words.
    pub(crate) named: Vec<String>,
}

impl Desired {
    /// As the file says.
    pub(crate) fn new(editor: Editor) -> Self {
        Self { editor, since: Since::default() }
    }

    /// See [`Editor::stage`].
    pub(crate) fn stage(&self, config: &Config, edits: &[Edit]) -> Result<Staged, Refusal> {
        self.editor.stage(config, edits)
    }

    /// What was staged is desired from now on.
    pub(crate) fn commit(&mut self, config: &mut Config, staged: Staged) {
        staged.note(&mut self.since);
        self.editor.commit(config, staged);
    }

    /// The tables as they are written.
    pub(crate) fn shown(&self) -> Shown {
        self.editor.shown()
    }

    /// How many things were edited since the file was read.
    pub(crate) fn edits(&self) -> usize {
        self.since.count()
    }

    /// A file that was read, in place of this: with the edits made again if they are to be kept, and with those that are dropped.
    pub(crate) fn replaced_by(&self, file: Editor, config: &mut Config, keep: bool) -> (Self, Dropped) {
        let (mut next, mut dropped) = (Self::new(file), Dropped::default());
        let edits = self.since.edits();
        let mut rest = &edits[..];
        while let Some((first, others)) = rest.split_first() {
            if !keep {
                dropped.add(first, "");
                rest = others;
                continue;
            }
            // As many as can be in one go, which costs little more than one of them.
            let good = match next.stage(config, rest) {
                Ok(staged) => {
                    next.commit(config, staged);
                    break;
                }
                Err(refusal) => refusal.edit,
            };
            let (fit, not) = rest.split_at(good);
            if let Ok(staged) = next.stage(config, fit) {
                next.commit(config, staged);
            }
            let Some((edit, others)) = not.split_first() else { break };
            // By itself it may fit: a list has its limits.
            match next.stage(config, std::slice::from_ref(edit)) {
                Ok(staged) => next.commit(config, staged),
                Err(refusal) => dropped.add(edit, &format!(": {}", refusal.text)),
            }
            rest = others;
        }
        (next, dropped)
    }
}

impl Dropped {
    fn add(&mut self, edit: &Edit, why: &str) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{}{why}", describe(edit)));
        }
    }
}

/// An edit in words.
fn describe(edit: &Edit) -> String {
    let at = |(address, port): &(std::net::IpAddr, u16)| std::net::SocketAddr::new(*address, *port);
    let keys = |keys: &weir_config::edit::Keys| {
        let mut keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key} = {}", shown(value))).collect();
        keys.truncate(8);
        keys.join(", ")
    };
    match edit {
        Edit::AddVirtualServer(new) => format!("virtual server added: {}", keys(&names_of(new))),
        Edit::SetVirtualServer(id, new) => {
            format!("virtual server {} set: {}", name(id), keys(&names_of(new)))
        }
        Edit::RemoveVirtualServer(id) => format!("virtual server {} removed", name(id)),
        Edit::AddRealServer(id, new) => {
            format!("real server added to {}: {}", name(id), keys(&names_of(new)))
        }
        Edit::SetRealServer(id, key, new) => {
            format!("real server {} of {} set: {}", at(key), name(id), keys(&names_of(new)))
        }
        Edit::RemoveRealServer(id, key) => format!("real server {} of {} removed", at(key), name(id)),
        Edit::Clear => "all virtual servers removed".to_owned(),
        Edit::Zero(_) => "counters zeroed".to_owned(),
        Edit::SetTimeouts(new) => format!("timeouts set: {}", keys(new)),
    }
}

/// The keys that hold a word or a number: no other can be told in a line, and may be a secret.
fn names_of(keys: &weir_config::edit::Keys) -> weir_config::edit::Keys {
    const SHOWN: [&str; 15] = [
        "name",
        "address",
        "port",
        "protocol",
        "mark",
        "scheduler",
        "forwarding",
        "weight",
        "persistence_timeout",
        "persistence_engine",
        "upper_threshold",
        "lower_threshold",
        "one_packet",
        "clamp_mss",
        "helper",
    ];
    keys.iter()
        .filter(|(key, _)| SHOWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn name(id: &Id) -> String {
    match id {
        Id::Name(name) => name.clone(),
        Id::Identity(Identity::Address { address, port, protocol }) => {
            format!("{} {}", protocol.name(), std::net::SocketAddr::new(*address, *port))
        }
        Id::Identity(Identity::Mark { mark, family }) => format!("mark {mark} ({})", family.name()),
    }
}
