//! Edits that are being made, and what comes of them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::source::{Written, said, write};
use super::{Edit, Editor, Id, Keys, Kind, Origin, Refused, ServerKey, Since, TimeoutsEdit, merge, name_of};
use crate::model::{Config, Identity, RealServer, Timeouts, VirtualServer};
use crate::parse::read;
use crate::report::{Problem, Report, Severity, quoted};

/// What one edit does to what is served.
#[derive(Debug, Clone)]
pub enum Step {
    /// A virtual server is as told here; it may be new.
    Put(VirtualServer),
    /// The same, and one of its real servers was edited, though it may be as it was.
    Edit(VirtualServer, ServerKey),
    /// A virtual server is gone.
    Remove(Identity),
    /// How long connections stay.
    Timeouts(Timeouts),
    /// Counters begin at 0 again, of one or of all.
    Zero(Option<Identity>),
}

impl Step {
    fn real_servers(&self) -> usize {
        match self {
            Self::Put(server) | Self::Edit(server, _) => server.real_servers.len(),
            Self::Remove(_) | Self::Timeouts(_) | Self::Zero(_) => 0,
        }
    }
}

/// Real servers that the steps of one list hold at most, each edit of a real server those of its whole virtual server.
const HELD_MAX: usize = 500_000;

/// What comes of a list of edits.
#[derive(Debug)]
pub struct Staged {
    /// In the order of the edits.
    pub steps: Vec<Step>,
    /// What somebody should look at all the same.
    pub warnings: Vec<String>,
    /// Problems that are none where the host has what the edits need.
    pub needs: Vec<Problem>,
    /// How each virtual server that is changed is in the end; `None`: it is gone.
    pub(super) outcome: Vec<(Identity, Option<(VirtualServer, Written)>)>,
    pub(super) timeouts: Option<TimeoutsEdit>,
    /// Each edit with the virtual server and real server that it was about.
    notes: Vec<(Edit, Option<Identity>, Option<ServerKey>)>,
}

impl Staged {
    /// How each virtual server that is changed is in the end; `None`: it is gone.
    pub fn outcome(&self) -> impl Iterator<Item = (Identity, Option<&VirtualServer>)> {
        self.outcome.iter().map(|(identity, now)| (*identity, now.as_ref().map(|(server, _)| server)))
    }

    /// Takes the edits down.
    pub fn note(&self, since: &mut Since) {
        self.notes.iter().for_each(|(edit, service, server)| since.note(edit, *service, *server));
    }
}

/// A list of edits, made one after the other beside the configuration.
pub(super) struct Work<'a> {
    editor: &'a Editor,
    config: &'a Config,
    /// What was changed so far, in the order of the first change.
    order: Vec<Identity>,
    changed: HashMap<Identity, Option<(VirtualServer, Written)>>,
    timeouts: Option<TimeoutsEdit>,
    steps: Vec<Step>,
    /// Real servers in these steps.
    held: usize,
    warnings: Vec<String>,
    needs: Vec<Problem>,
    notes: Vec<(Edit, Option<Identity>, Option<ServerKey>)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(editor: &'a Editor, config: &'a Config) -> Self {
        Self {
            editor,
            config,
            order: Vec::new(),
            changed: HashMap::new(),
            timeouts: None,
            steps: Vec::new(),
            held: 0,
            warnings: Vec::new(),
            needs: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn end(mut self) -> Staged {
        let mut outcome = Vec::with_capacity(self.order.len());
        for identity in self.order {
            outcome.extend(self.changed.remove(&identity).map(|now| (identity, now)));
        }
        Staged {
            steps: self.steps,
            warnings: self.warnings,
            needs: self.needs,
            outcome,
            timeouts: self.timeouts,
            notes: self.notes,
        }
    }

    /// Makes one edit.
    pub(super) fn edit(&mut self, edit: &Edit) -> Result<(), Refused> {
        if self.held > HELD_MAX {
            let text = "too many edits of long lists at once: send them in several requests".to_owned();
            return Err((Kind::Invalid, text));
        }
        match edit {
            Edit::AddVirtualServer(keys) => self.add_service(edit, keys),
            Edit::SetVirtualServer(id, keys) => self.set_service(edit, id, keys),
            Edit::RemoveVirtualServer(id) => {
                let (server, _) = self.find(id)?;
                let identity = server.identity();
                self.is_not_tracked(&server.name)?;
                self.remove(edit, identity);
                Ok(())
            }
            Edit::AddRealServer(id, keys) => self.add_server(edit, id, keys),
            Edit::SetRealServer(id, key, keys) => self.set_server(edit, id, *key, keys),
            Edit::RemoveRealServer(id, key) => {
                let (server, written) = self.find(id)?;
                let place = place_of(server, *key)?;
                let (mut server, mut written) = (server.clone(), written.clone());
                server.real_servers.remove(place);
                written.real_servers.remove(place);
                self.put(edit, Step::Put(server.clone()), Some(*key), (server, written));
                Ok(())
            }
            Edit::Clear => {
                let gone: Vec<_> =
                    self.all().map(|server| (server.identity(), server.name.clone())).collect();
                gone.iter().try_for_each(|(_, name)| self.is_not_tracked(name))?;
                for (identity, _) in gone {
                    self.change(identity, None);
                    self.steps.push(Step::Remove(identity));
                }
                self.notes.push((edit.clone(), None, None));
                Ok(())
            }
            Edit::Zero(id) => {
                let identity = id.as_ref().map(|id| self.find(id)).transpose()?;
                let identity = identity.map(|(server, _)| server.identity());
                self.steps.push(Step::Zero(identity));
                Ok(())
            }
            Edit::SetTimeouts(keys) => self.set_timeouts(edit, keys),
        }
    }

    fn add_service(&mut self, edit: &Edit, keys: &Keys) -> Result<(), Refused> {
        let mut keys = keys.clone();
        merge_nulls(&mut keys);
        let is_named = keys.contains_key("name");
        if !is_named {
            // Of what it serves, which is known when it was read.
            keys.insert("name".to_owned(), "unnamed".into());
        }
        let mut server = self.read(&keys)?;
        let identity = server.identity();
        if self.current(&identity).is_some() {
            let what = what_it_serves(&identity);
            return Err((Kind::Exists, format!("duplicate virtual server: {what} is served already")));
        }
        if !is_named {
            server.name = self.free_name(&identity);
            keys.insert("name".to_owned(), server.name.clone().into());
        }
        self.name_is_free(&server.name, None)?;
        self.is_no_real_server(&server)?;
        let written = Written::of(keys.clone(), Origin::Edit);
        let edit = match edit {
            // So that it has this name again if it is made again.
            Edit::AddVirtualServer(_) => Edit::AddVirtualServer(keys),
            other => other.clone(),
        };
        self.put(&edit, Step::Put(server.clone()), None, (server, written));
        Ok(())
    }

    fn set_service(&mut self, edit: &Edit, id: &Id, keys: &Keys) -> Result<(), Refused> {
        let (former, written) = self.find(id)?;
        let (identity, name, origin) = (former.identity(), former.name.clone(), written.origin);
        let mut whole = written.whole();
        merge(&mut whole, keys);
        let server = self.read(&whole)?;
        if server.identity() != identity {
            let what = what_it_serves(&identity);
            let text = format!("{what} is what this virtual server is known by: remove it and add another");
            return Err((Kind::Invalid, text));
        }
        if server.name != name {
            self.is_not_tracked(&name)?;
            self.name_is_free(&server.name, Some(&identity))?;
        }
        let written = Written::of(whole, origin);
        self.put(edit, Step::Put(server.clone()), None, (server, written));
        Ok(())
    }

    fn add_server(&mut self, edit: &Edit, id: &Id, keys: &Keys) -> Result<(), Refused> {
        let (server, written) = self.find(id)?;
        let (mut server, mut written) = (server.clone(), written.clone());
        let mut keys = keys.clone();
        merge_nulls(&mut keys);
        let real = self.read_server(&written, &keys, written.real_servers.len())?;
        let key = (real.address, real.port);
        if place_of(&server, key).is_ok() {
            let text = format!("duplicate real server: {} port {} again", key.0, key.1);
            return Err((Kind::Exists, text));
        }
        server.real_servers.push(real);
        written.real_servers.push(Value::Object(keys).to_string().into());
        self.put(edit, Step::Put(server.clone()), Some(key), (server, written));
        Ok(())
    }

    fn set_server(&mut self, edit: &Edit, id: &Id, key: ServerKey, keys: &Keys) -> Result<(), Refused> {
        let (server, written) = self.find(id)?;
        let place = place_of(server, key)?;
        let (mut server, mut written) = (server.clone(), written.clone());
        let mut whole = written.real_server(place);
        merge(&mut whole, keys);
        let real = self.read_server(&written, &whole, place)?;
        if (real.address, real.port) != key {
            let text = format!(
                "{} port {} is what this real server is known by: remove it and add another",
                key.0, key.1
            );
            return Err((Kind::Invalid, text));
        }
        server.real_servers[place] = real;
        written.real_servers[place] = Value::Object(whole).to_string().into();
        self.put(edit, Step::Edit(server.clone(), key), Some(key), (server, written));
        Ok(())
    }

    fn set_timeouts(&mut self, edit: &Edit, keys: &Keys) -> Result<(), Refused> {
        let (mut timeouts, mut edited) = match &self.timeouts {
            Some(known) => known.clone(),
            None => (self.config.connections.timeouts.clone(), Keys::new()),
        };
        let mut text = "connections = { timeouts = ".to_owned();
        write(&mut text, &Value::Object(keys.clone()));
        text += " }\n";
        let mut problems = Vec::new();
        let read = crate::parse::timeouts(&text, &timeouts, &mut problems);
        self.take(&text, 0, problems)?;
        if let Some(read) = read {
            timeouts = read;
        }
        edited.extend(keys.clone());
        self.steps.push(Step::Timeouts(timeouts.clone()));
        self.timeouts = Some((timeouts, edited));
        self.notes.push((edit.clone(), None, None));
        Ok(())
    }

    /// Takes down that a virtual server is as it is now.
    fn put(&mut self, edit: &Edit, step: Step, server: Option<ServerKey>, now: (VirtualServer, Written)) {
        let identity = now.0.identity();
        self.change(identity, Some(now));
        // Each holds the whole virtual server, so a long list of edits would hold it as often.
        let replaces = match (self.steps.last(), &step) {
            (Some(Step::Put(last)), Step::Put(_)) => last.identity() == identity,
            (Some(Step::Edit(last, key)), Step::Edit(_, again)) => {
                last.identity() == identity && key == again
            }
            _ => false,
        };
        if replaces && let Some(gone) = self.steps.pop() {
            self.held -= gone.real_servers();
        }
        self.held += step.real_servers();
        self.steps.push(step);
        self.notes.push((edit.clone(), Some(identity), server));
    }

    fn remove(&mut self, edit: &Edit, identity: Identity) {
        self.change(identity, None);
        self.steps.push(Step::Remove(identity));
        self.notes.push((edit.clone(), Some(identity), None));
    }

    fn change(&mut self, identity: Identity, now: Option<(VirtualServer, Written)>) {
        if self.changed.insert(identity, now).is_none() {
            self.order.push(identity);
        }
    }

    /// Every virtual server there is now.
    fn all(&self) -> impl Iterator<Item = &VirtualServer> {
        let kept = self.config.virtual_servers.iter();
        let kept =
            kept.filter(|server| self.changed.is_empty() || !self.changed.contains_key(&server.identity()));
        kept.chain(self.changed.values().flatten().map(|(server, _)| server))
    }

    /// Who has this name now.
    fn named(&self, name: &str) -> Option<Identity> {
        let mut changed =
            self.changed.iter().filter_map(|(identity, now)| Some((identity, &now.as_ref()?.0)));
        if let Some((identity, _)) = changed.find(|(_, server)| server.name == name) {
            return Some(*identity);
        }
        self.editor.names.get(name).copied().filter(|identity| !self.changed.contains_key(identity))
    }

    /// One that is like that.
    fn which(&self, is_meant: impl Fn(&VirtualServer) -> bool) -> Option<&VirtualServer> {
        let is_kept = |server: &&VirtualServer| !self.changed.contains_key(&server.identity());
        let kept = self.config.virtual_servers.iter().filter(|server| is_meant(server));
        let changed = self.changed.values().flatten().map(|(server, _)| server);
        let mut kept = kept.filter(is_kept);
        kept.next().or_else(|| changed.into_iter().find(|server| is_meant(server)))
    }

    fn current(&self, identity: &Identity) -> Option<(&VirtualServer, &Written)> {
        if let Some(changed) = self.changed.get(identity) {
            return changed.as_ref().map(|(server, written)| (server, written));
        }
        let place = *self.editor.places.get(identity)?;
        Some((self.config.virtual_servers.get(place)?, self.editor.written.get(place)?))
    }

    fn find(&self, id: &Id) -> Result<(&VirtualServer, &Written), Refused> {
        let identity = match id {
            Id::Identity(identity) => Some(*identity),
            Id::Name(name) => self.named(name),
        };
        identity.and_then(|identity| self.current(&identity)).ok_or_else(|| {
            let what = match id {
                Id::Name(name) => format!("is called {}", quoted(name)),
                Id::Identity(identity) => format!("serves {}", what_it_serves(identity)),
            };
            (Kind::UnknownVirtualServer, format!("unknown virtual server: none {what}"))
        })
    }

    /// Reads a whole virtual server.
    fn read(&mut self, keys: &Keys) -> Result<VirtualServer, Refused> {
        let (text, from) = self.text(keys, None);
        self.read_text(&text, from)
    }

    /// Reads a real server beside the keys of its virtual server. It takes this place in the list.
    fn read_server(&mut self, written: &Written, keys: &Keys, place: usize) -> Result<RealServer, Refused> {
        let (text, from) = self.text(&written.head(), Some(keys));
        let before = self.warnings.len();
        let server = self.read_text(&text, from)?;
        if self.warnings.len() > before {
            // What is so of one alone need not be so beside the others, that none has a weight, say.
            let mut whole = written.clone();
            whole.real_servers.truncate(place);
            whole.real_servers.push(Value::Object(keys.clone()).to_string().into());
            whole.real_servers.extend(written.real_servers.iter().skip(place + 1).cloned());
            let (text, _) = self.text(&whole.whole(), None);
            let mut problems = Vec::new();
            read(&text, &mut problems);
            let report = Report::new("edit", &text, problems);
            let beside: HashSet<String> = report.problems().iter().map(Problem::sentence).collect();
            let alone = self.warnings.split_off(before);
            self.warnings.extend(alone.into_iter().filter(|warning| beside.contains(warning)));
        }
        let real = server.real_servers.into_iter().next();
        real.ok_or_else(|| (Kind::Invalid, "the real server can't be read".to_owned()))
    }

    /// The text of a virtual server, or of one real server beside its keys, behind all other tables; and where what is to be looked at
    /// begins.
    fn text(&self, keys: &Keys, real_server: Option<&Keys>) -> (String, usize) {
        let mut text = self.editor.base.text.clone();
        text += "virtual_server = [";
        let mut from = text.len();
        write(&mut text, &Value::Object(keys.clone()));
        if let Some(real_server) = real_server {
            text.truncate(text.len() - " }".len());
            text += ", real_server = [";
            // The virtual server was looked at before.
            from = text.len();
            write(&mut text, &Value::Object(real_server.clone()));
            text += "] }";
        }
        text += "]\n";
        (text, from)
    }

    fn read_text(&mut self, text: &str, from: usize) -> Result<VirtualServer, Refused> {
        let mut problems = Vec::new();
        let config = read(text, &mut problems);
        self.take(text, from, problems)?;
        let server = config.and_then(|mut config| config.virtual_servers.pop());
        let server = server.ok_or_else(|| (Kind::Invalid, "it can't be read".to_owned()))?;
        self.reaches_no_vip(&server)?;
        Ok(server)
    }

    /// The first error, or the warnings that are new. Those of what stands before `from` are not.
    fn take(&mut self, text: &str, from: usize, problems: Vec<Problem>) -> Result<(), Refused> {
        let known = &self.editor.base.known;
        let (needs, problems): (Vec<_>, Vec<_>) = problems
            .into_iter()
            .filter(|problem| !known.contains(&said(problem)))
            .partition(|problem| problem.need.is_some());
        let is_near = |problem: &Problem| problem.place.as_ref().is_none_or(|place| place.span.start >= from);
        let problems: Vec<_> = problems
            .into_iter()
            .filter(|problem| problem.severity == Severity::Error || is_near(problem))
            .collect();
        let report = Report::new("edit", text, problems);
        // The edit's own before those of other tables that follow from it.
        let mut errors: Vec<_> =
            report.problems().iter().filter(|it| it.severity == Severity::Error).collect();
        errors.sort_by_key(|problem| !is_near(problem));
        if let Some(error) = errors.first() {
            let kind =
                if error.message.ends_with("not served yet") { Kind::NotServed } else { Kind::Invalid };
            return Err((kind, error.sentence()));
        }
        self.warnings.extend(report.problems().iter().map(Problem::sentence));
        self.needs.extend(needs);
        Ok(())
    }

    /// A real server is another host than any VIP.
    fn reaches_no_vip(&self, server: &VirtualServer) -> Result<(), Refused> {
        let sorry = server.health.sorry_server.iter();
        for real in server.real_servers.iter().chain(sorry) {
            let is_new = self.changed.values().flatten().any(|(other, _)| is_at(other, real));
            if is_new
                || self.editor.vips.contains_key(&real.address)
                    && self.which(|other| is_at(other, real)).is_some()
            {
                return Err((Kind::Invalid, "a real server must be another host: this is a VIP".to_owned()));
            }
        }
        Ok(())
    }

    /// A new VIP is no real server's address.
    fn is_no_real_server(&self, server: &VirtualServer) -> Result<(), Refused> {
        if server.mark.is_some() || self.editor.vips.contains_key(&server.address) {
            return Ok(());
        }
        let has_it = |other: &VirtualServer| {
            let sorry = other.health.sorry_server.iter();
            other.real_servers.iter().chain(sorry).any(|real| is_at(server, real))
        };
        let is_new = self.changed.values().flatten().any(|(other, _)| has_it(other));
        if is_new || self.editor.real_servers.contains_key(&server.address) && self.which(has_it).is_some() {
            let text = format!(
                "a real server must be another host: {} is a real server's address, and would be a VIP",
                server.address
            );
            return Err((Kind::Invalid, text));
        }
        Ok(())
    }

    fn is_not_tracked(&self, name: &str) -> Result<(), Refused> {
        match self.editor.base.tracked.contains(name) {
            true => {
                let text =
                    format!("unknown virtual server {}: a [[vrrp.track]] of the file names it", quoted(name));
                Err((Kind::Invalid, text))
            }
            false => Ok(()),
        }
    }

    fn name_is_free(&self, name: &str, own: Option<&Identity>) -> Result<(), Refused> {
        match self.named(name).is_some_and(|holder| own != Some(&holder)) {
            true => {
                let text = format!(
                    "duplicate virtual server name {}: used already (help: give each its own virtual server name)",
                    quoted(name)
                );
                Err((Kind::Invalid, text))
            }
            false => Ok(()),
        }
    }

    fn free_name(&self, identity: &Identity) -> String {
        let name = name_of(identity);
        let is_taken = |name: &str| self.named(name).is_some();
        let mut others = (2..).map(|number| format!("{name}-{number}"));
        match is_taken(&name) {
            true => others.find(|name| !is_taken(name)).unwrap_or_default(),
            false => name,
        }
    }
}

/// Null says nothing of what is new.
fn merge_nulls(keys: &mut Keys) {
    keys.retain(|_, value| !value.is_null());
}

fn is_at(server: &VirtualServer, real: &RealServer) -> bool {
    server.mark.is_none() && server.address == real.address
}

fn place_of(server: &VirtualServer, (address, port): ServerKey) -> Result<usize, Refused> {
    let place = server.real_servers.iter().position(|real| (real.address, real.port) == (address, port));
    place.ok_or_else(|| {
        let text = format!("unknown real server: {} has none at {address} port {port}", quoted(&server.name));
        (Kind::UnknownRealServer, text)
    })
}

fn what_it_serves(identity: &Identity) -> String {
    match identity {
        Identity::Address { address, port, protocol } => format!("{address} port {port} {}", protocol.name()),
        Identity::Mark { mark, family } => format!("the mark {mark} of {} traffic", family.name()),
    }
}
