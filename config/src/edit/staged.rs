//! Edits that are being made, and what comes of them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde_json::Value;

use super::base::said;
use super::changed::{Changed, Differences};
use super::{Edit, Editor, Id, Kind, Refused, ServerKey, Since, TimeoutsEdit, merge, name_of};
use crate::model::{Config, Identity, RealServer, Timeouts, VirtualServer};
use crate::parse::{self, read};
use crate::report::{Need, Problem, Report, Severity, quoted};
use crate::source::{Keys, Origin, Written, write};

/// What edits do to what is served, those that stand together and are about one virtual server in one.
#[derive(Debug, Clone)]
pub enum Step {
    /// A virtual server is as told here; it may be new.
    Put(VirtualServer),
    /// The same, and these of its real servers were edited, though they may be as they were.
    Edit(VirtualServer, Vec<ServerKey>),
    /// A virtual server is gone.
    Remove(Identity),
    /// How long connections stay.
    Timeouts(Timeouts),
    /// Counters begin at 0 again, of one or of all.
    Zero(Option<Identity>),
}

/// Real servers that the edits of one list look at or hold at most, beside those that each is about: all of a virtual server that is set,
/// or to which the list comes back.
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
    changed: HashMap<Identity, Option<Changed>>,
    differences: Differences,
    timeouts: Option<TimeoutsEdit>,
    steps: Vec<Step>,
    /// The step that is still open: of this virtual server, with these of its real servers edited.
    last: Option<(Identity, Vec<ServerKey>)>,
    /// See [`HELD_MAX`].
    held: usize,
    /// Those about one real server with whose it is: what is so of one alone need not be so beside the others.
    warnings: Vec<(Option<Identity>, String)>,
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
            differences: Differences::default(),
            timeouts: None,
            steps: Vec::new(),
            last: None,
            held: 0,
            warnings: Vec::new(),
            needs: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn end(mut self) -> Staged {
        self.seal();
        let warnings = self.warnings_in_the_end();
        let mut outcome = Vec::with_capacity(self.order.len());
        for identity in self.order {
            let now = self.changed.remove(&identity);
            outcome.extend(now.map(|now| (identity, now.map(Changed::into_parts))));
        }
        Staged {
            steps: self.steps,
            warnings,
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
            Edit::RemoveVirtualServer(id) => self.remove_service(edit, id),
            Edit::AddRealServer(id, keys) => self.add_server(edit, id, keys),
            Edit::SetRealServer(id, key, keys) => self.set_server(edit, id, *key, keys),
            Edit::RemoveRealServer(id, key) => self.remove_server(edit, id, *key),
            Edit::Clear => self.clear(edit),
            Edit::Zero(id) => {
                let identity = id.as_ref().map(|id| self.find(id)).transpose()?;
                self.seal();
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
        if self.is_served(&identity) {
            let what = what_it_serves(&identity);
            return Err((Kind::Exists, format!("duplicate virtual server: {what} is served already")));
        }
        if !is_named {
            server.name = self.free_name(&identity);
            keys.insert("name".to_owned(), server.name.clone().into());
        }
        self.name_is_free(&server.name, None)?;
        self.is_no_real_server(&server)?;
        let edit = match edit {
            // So that it has this name again if it is made again.
            Edit::AddVirtualServer(_) => Edit::AddVirtualServer(keys.clone()),
            other => other.clone(),
        };
        let new = Changed::of(server, Written::of(keys, Origin::Edit));
        self.differences.count(&new, 1);
        self.change(identity, Some(new));
        self.put(edit, identity, None);
        Ok(())
    }

    fn set_service(&mut self, edit: &Edit, id: &Id, keys: &Keys) -> Result<(), Refused> {
        let identity = self.find(id)?;
        let former = self.open(identity)?;
        let (name, origin, before) = (former.head().name.clone(), former.origin, former.whole());
        let mut whole = before.clone();
        merge(&mut whole, keys);
        let known = self.needs.len();
        let server = self.read(&whole)?;
        if server.identity() != identity {
            let what = what_it_serves(&identity);
            let text = format!("{what} is what this virtual server is known by: remove it and add another");
            return Err((Kind::Invalid, text));
        }
        if server.name != name {
            self.is_not_tracked(&name, "give it another name")?;
            self.name_is_free(&server.name, Some(&identity))?;
        }
        self.but_for_needs_of(known, &before, None);
        let next = Changed::of(server, Written::of(whole, origin));
        if let Some(Some(former)) = self.changed.get(&identity) {
            self.differences.count(former, -1);
        }
        self.differences.count(&next, 1);
        self.change(identity, Some(next));
        self.put(edit.clone(), identity, None);
        Ok(())
    }

    fn remove_service(&mut self, edit: &Edit, id: &Id) -> Result<(), Refused> {
        let identity = self.find(id)?;
        let gone = self.open(identity)?;
        let name = gone.head().name.clone();
        self.is_not_tracked(&name, "remove it")?;
        self.seal();
        if let Some(Some(gone)) = self.changed.get(&identity) {
            self.differences.count(gone, -1);
        }
        self.change(identity, None);
        self.steps.push(Step::Remove(identity));
        self.notes.push((edit.clone(), Some(identity), None));
        Ok(())
    }

    fn add_server(&mut self, edit: &Edit, id: &Id, keys: &Keys) -> Result<(), Refused> {
        let identity = self.find(id)?;
        let head = self.open(identity)?.keys();
        let mut keys = keys.clone();
        merge_nulls(&mut keys);
        let real = self.read_server(identity, &head, &keys)?;
        let (key, address) = ((real.address, real.port), real.address);
        let server = self.open(identity)?;
        if server.find(key).is_some() {
            let text = format!("duplicate real server: {} port {} again", key.0, key.1);
            return Err((Kind::Exists, text));
        }
        server.add(real, keys);
        self.differences.count_real(address, 1);
        self.put(edit.clone(), identity, Some(key));
        Ok(())
    }

    fn set_server(&mut self, edit: &Edit, id: &Id, key: ServerKey, keys: &Keys) -> Result<(), Refused> {
        let identity = self.find(id)?;
        let server = self.open(identity)?;
        let place = place_of(server, key)?;
        let (head, before) = (server.keys(), server.real_server(place));
        let mut whole = before.clone();
        merge(&mut whole, keys);
        let known = self.needs.len();
        let real = self.read_server(identity, &head, &whole)?;
        if (real.address, real.port) != key {
            let text = format!(
                "{} port {} is what this real server is known by: remove it and add another",
                key.0, key.1
            );
            return Err((Kind::Invalid, text));
        }
        self.but_for_needs_of(known, &head, Some(&before));
        self.open(identity)?.set(place, real, whole);
        self.put(edit.clone(), identity, Some(key));
        self.last.iter_mut().for_each(|(_, edited)| edited.push(key));
        Ok(())
    }

    fn remove_server(&mut self, edit: &Edit, id: &Id, key: ServerKey) -> Result<(), Refused> {
        let identity = self.find(id)?;
        let server = self.open(identity)?;
        let place = place_of(server, key)?;
        server.remove(place);
        self.differences.count_real(key.0, -1);
        self.put(edit.clone(), identity, Some(key));
        Ok(())
    }

    fn clear(&mut self, edit: &Edit) -> Result<(), Refused> {
        let kept = self.config.virtual_servers.iter();
        let kept: Vec<_> = kept.filter(|server| !self.changed.contains_key(&server.identity())).collect();
        let changed: Vec<Identity> =
            self.order.iter().copied().filter(|identity| self.is_served(identity)).collect();
        self.held += self.config.virtual_servers.len() + self.order.len();
        let names = kept.iter().map(|server| server.name.as_str());
        let others = changed.iter().filter_map(|identity| Some(self.changed.get(identity)?.as_ref()?.head()));
        names
            .chain(others.map(|server| server.name.as_str()))
            .try_for_each(|name| self.is_not_tracked(name, "remove it"))?;
        self.seal();
        for server in &kept {
            self.differences.has_gone(server);
        }
        for identity in &changed {
            if let Some(Some(gone)) = self.changed.get(identity) {
                self.differences.count(gone, -1);
            }
        }
        for identity in kept.iter().map(|server| server.identity()).chain(changed) {
            self.change(identity, None);
            self.steps.push(Step::Remove(identity));
        }
        self.notes.push((edit.clone(), None, None));
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
        let read = parse::timeouts(&text, &timeouts, &mut problems);
        self.take(&text, 0, None, problems)?;
        if let Some(read) = read {
            timeouts = read;
        }
        edited.extend(keys.clone());
        self.seal();
        self.steps.push(Step::Timeouts(timeouts.clone()));
        self.timeouts = Some((timeouts, edited));
        self.notes.push((edit.clone(), None, None));
        Ok(())
    }

    /// Takes down that a virtual server is as it is now.
    fn put(&mut self, edit: Edit, identity: Identity, server: Option<ServerKey>) {
        if self.last.as_ref().is_none_or(|(last, _)| *last != identity) {
            self.seal();
            self.last = Some((identity, Vec::new()));
        }
        self.notes.push((edit, Some(identity), server));
    }

    /// Ends the step that is open. It holds the whole virtual server, so edits of one that stand together share it.
    fn seal(&mut self) {
        let Some((identity, edited)) = self.last.take() else { return };
        let Some(Some(now)) = self.changed.get(&identity) else { return };
        self.held += now.len();
        self.steps.push(match edited.is_empty() {
            true => Step::Put(now.server()),
            false => Step::Edit(now.server(), edited),
        });
    }

    fn change(&mut self, identity: Identity, now: Option<Changed>) {
        // What is open is not what is served before it.
        if self.changed.insert(identity, now).is_none() {
            self.order.push(identity);
        }
    }

    fn is_served(&self, identity: &Identity) -> bool {
        match self.changed.get(identity) {
            Some(changed) => changed.is_some(),
            None => self.editor.places.contains_key(identity),
        }
    }

    fn find(&self, id: &Id) -> Result<Identity, Refused> {
        let identity = match id {
            Id::Identity(identity) => Some(*identity),
            Id::Name(name) => self.differences.named(self.editor, name),
        };
        identity.filter(|identity| self.is_served(identity)).ok_or_else(|| unknown(id))
    }

    /// One that is served, to be changed.
    fn open(&mut self, identity: Identity) -> Result<&mut Changed, Refused> {
        if !self.changed.contains_key(&identity)
            && let Some(place) = self.editor.places.get(&identity).copied()
            && let Some(server) = self.config.virtual_servers.get(place)
            && let Some(written) = self.editor.written.get(place)
        {
            self.change(identity, Some(Changed::of(server.clone(), Written::clone(written))));
        }
        let open = self.changed.get_mut(&identity).and_then(Option::as_mut);
        open.ok_or_else(|| unknown(&Id::Identity(identity)))
    }

    /// Reads a whole virtual server.
    fn read(&mut self, keys: &Keys) -> Result<VirtualServer, Refused> {
        let (text, from) = self.text(keys, None);
        let server = self.read_text(&text, from, None)?;
        self.held += server.real_servers.len();
        Ok(server)
    }

    /// Reads a real server beside the keys of its virtual server.
    fn read_server(&mut self, whose: Identity, head: &Keys, keys: &Keys) -> Result<RealServer, Refused> {
        let (text, from) = self.text(head, Some(keys));
        let server = self.read_text(&text, from, Some(whose))?;
        let real = server.real_servers.into_iter().next();
        real.ok_or_else(|| (Kind::Invalid, "the real server can't be read".to_owned()))
    }

    /// The text of a virtual server, or of one real server beside its keys, behind all other tables; and where what is to be looked at
    /// begins.
    fn text(&self, keys: &Keys, real_server: Option<&Keys>) -> (String, usize) {
        let mut text = self.editor.base.text_for(keys);
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

    fn read_text(
        &mut self,
        text: &str,
        from: usize,
        whose: Option<Identity>,
    ) -> Result<VirtualServer, Refused> {
        let mut problems = Vec::new();
        let config = read(text, &mut problems);
        self.take(text, from, whose, problems)?;
        let server = config.and_then(|mut config| config.virtual_servers.pop());
        let server = server.ok_or_else(|| (Kind::Invalid, "it can't be read".to_owned()))?;
        self.reaches_no_vip(&server)?;
        Ok(server)
    }

    /// The first error, or the warnings and needs that are new. Those of what stands before `from` are not.
    fn take(
        &mut self,
        text: &str,
        from: usize,
        whose: Option<Identity>,
        problems: Vec<Problem>,
    ) -> Result<(), Refused> {
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
            return Err((Kind::Invalid, error.sentence()));
        }
        self.warnings.extend(report.problems().iter().map(|problem| (whose, problem.sentence())));
        self.needs.extend(needs.into_iter().filter(is_near));
        Ok(())
    }

    /// Takes out of the needs from `known` on those that were there before the edit: it answers for what it changes. So a real server is
    /// drained while a program of its checks can't be found.
    fn but_for_needs_of(&mut self, known: usize, keys: &Keys, real_server: Option<&Keys>) {
        if self.needs.len() == known {
            return;
        }
        let (text, _) = self.text(keys, real_server);
        let mut problems = Vec::new();
        if let Some(config) = read(&text, &mut problems) {
            self.held += config.virtual_servers.iter().map(|server| server.real_servers.len()).sum::<usize>();
        }
        let before: HashSet<Need> = problems.into_iter().filter_map(|problem| problem.need).collect();
        let needs = self.needs.split_off(known);
        self.needs
            .extend(needs.into_iter().filter(|it| it.need.as_ref().is_none_or(|it| !before.contains(it))));
    }

    /// Warnings of real servers that hold beside the others, that none has a weight, say; and all others.
    fn warnings_in_the_end(&mut self) -> Vec<String> {
        let mut beside: HashMap<Identity, HashSet<String>> = HashMap::new();
        let all = std::mem::take(&mut self.warnings);
        let holds = |(whose, warning): &(Option<Identity>, String)| {
            let Some(whose) = whose else { return true };
            let said = beside.entry(*whose).or_insert_with(|| {
                let Some(Some(now)) = self.changed.get(whose) else { return HashSet::new() };
                let edited = self.notes.iter().filter(|(_, of, _)| of.as_ref() == Some(whose));
                let edited = edited.filter_map(|(_, _, server)| *server).collect();
                let (text, _) = self.text(&now.with(&edited), None);
                let mut problems = Vec::new();
                read(&text, &mut problems);
                let report = Report::new("edit", &text, problems);
                report.problems().iter().map(Problem::sentence).collect()
            });
            said.contains(warning)
        };
        all.into_iter().filter(holds).map(|(_, warning)| warning).collect()
    }

    /// A real server is another host than any VIP.
    fn reaches_no_vip(&self, server: &VirtualServer) -> Result<(), Refused> {
        let sorry = server.health.sorry_server.iter();
        let is_vip = |address: IpAddr| self.differences.is_vip(self.editor, address);
        match server.real_servers.iter().chain(sorry).any(|real| is_vip(real.address)) {
            true => Err((Kind::Invalid, "a real server must be another host: this is a VIP".to_owned())),
            false => Ok(()),
        }
    }

    /// A new VIP is no real server's address.
    fn is_no_real_server(&self, server: &VirtualServer) -> Result<(), Refused> {
        if server.mark.is_some() || self.differences.is_vip(self.editor, server.address) {
            return Ok(());
        }
        match self.differences.is_real_server(self.editor, server.address) {
            true => {
                let text = format!(
                    "a real server must be another host: {} is a real server's address, and would be a VIP",
                    server.address
                );
                Err((Kind::Invalid, text))
            }
            false => Ok(()),
        }
    }

    /// `then`: what somebody wants to do with it.
    fn is_not_tracked(&self, name: &str, then: &str) -> Result<(), Refused> {
        let Some(places) = self.editor.base.tracked.get(name) else { return Ok(()) };
        let [first, more @ ..] = &places[..] else { return Ok(()) };
        let (more, entry) = match more.len() {
            0 => (String::new(), "that entry"),
            count => (format!(", and {count} more,"), "those entries"),
        };
        let verb = if more.is_empty() { "names" } else { "name" };
        let text = format!(
            "VRRP tracks the virtual server {}: {first}{more} {verb} it (help: take {entry} out of the file and reload it, with \
             `weirctl reload --keep-edits` so that edits stay; then {then})",
            quoted(name)
        );
        Err((Kind::Invalid, text))
    }

    fn name_is_free(&self, name: &str, own: Option<&Identity>) -> Result<(), Refused> {
        match self.differences.named(self.editor, name).is_some_and(|holder| own != Some(&holder)) {
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
        let is_taken = |name: &str| self.differences.named(self.editor, name).is_some();
        let mut others = (2..).map(|number| format!("{name}-{number}"));
        match is_taken(&name) {
            true => others.find(|name| !is_taken(name)).unwrap_or_default(),
            false => name,
        }
    }
}

fn unknown(id: &Id) -> Refused {
    let what = match id {
        Id::Name(name) => format!("is called {}", quoted(name)),
        Id::Identity(identity) => format!("serves {}", what_it_serves(identity)),
    };
    (Kind::UnknownVirtualServer, format!("unknown virtual server: none {what}"))
}

/// Null says nothing of what is new.
fn merge_nulls(keys: &mut Keys) {
    keys.retain(|_, value| !value.is_null());
}

fn place_of(server: &mut Changed, (address, port): ServerKey) -> Result<usize, Refused> {
    server.find((address, port)).ok_or_else(|| {
        let name = quoted(&server.head().name);
        (Kind::UnknownRealServer, format!("unknown real server: {name} has none at {address} port {port}"))
    })
}

fn what_it_serves(identity: &Identity) -> String {
    match identity {
        Identity::Address { address, port, protocol } => format!("{address} port {port} {}", protocol.name()),
        Identity::Mark { mark, family } => format!("the mark {mark} of {} traffic", family.name()),
    }
}
