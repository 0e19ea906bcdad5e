//! The one way in: registry, host interfaces, health checks and VRRP change together or not at all.
//!
//! What is to be in force comes as a [`Draft`]: a file that was read again, or one that an edit made of what is in force. Each part is
//! asked first, and may refuse; only when none does all of them change, by steps that can't fail.
//!
//! | part | is asked | changes |
//! |---|---|---|
//! | what is taken at start | whether any of it is another ([`crate::restart`]) | never |
//! | health checks | for a place among the checker's orders | the place is filled |
//! | VRRP | whether its thread takes orders | the instances are put where it looks |
//! | host interfaces | to add new addresses, which are taken away again if anybody refuses | former ones are taken away |
//! | registry | to build the new snapshot aside | it is swapped in |
//!
//! The registry comes last: all of it changes or nothing ([`Publish::put`]), so asking it is the first of the changes. A refusal by
//! anybody leaves what is served, checks, verdicts, instances and addresses as they were.
//!
//! It may wait for the host's thread and build for a second, so a whole file is applied beside control ([`crate::reload`]).

use std::sync::Arc;

use weir_api::edits::{Applied, Kind, Refusal, Reload, Reloaded};
use weir_config::edit::{Edit, Editor, Staged};
use weir_config::model::health::Health;
use weir_config::model::{Config, Identity, VirtualServer};
use weir_config::report::Problem;
use weir_dataplane::snapshot::registry::RegistryError;
use weir_health::checker::{Handle, NotTaken};

use crate::compare;
use crate::desired::{Desired, Dropped};
use crate::examine::Found;
use crate::host::addresses::{HostControl, HostRefusal};
use crate::orders::{of_edit, refusal};
use crate::publish::Publish;
use crate::reload_status::RefusedBy;
use crate::restart::needs_restart;
use crate::vrrp::control::VrrpControl;
use crate::vrrp::orders::VrrpRefusal;
use crate::vrrp::settings::Numbers;

/// What is to be in force instead of what is.
pub(crate) struct Draft {
    config: Config,
    /// What its edits are made against.
    editor: Editor,
    /// Of VRRP's instances that are new with it.
    numbers: Numbers,
}

impl Draft {
    /// A checked configuration, with the numbers that were kept of its new instances of VRRP.
    pub(crate) fn new(config: Config, editor: Editor, numbers: Numbers) -> Self {
        Self { config, editor, numbers }
    }
}

/// Who does not take a draft, and why. Nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    /// It changes what is taken at start.
    #[error("{0}")]
    Restart(String),
    /// See [`NotTaken`].
    #[error("health checks do not take it: {0}")]
    Health(NotTaken),
    /// See [`VrrpRefusal`].
    #[error("VRRP does not take it: {0}")]
    Vrrp(VrrpRefusal),
    /// See [`HostRefusal`].
    #[error("the host interfaces do not take it: {0}")]
    Host(HostRefusal),
    /// See [`RegistryError`].
    #[error("it can't be served: {0}")]
    Registry(RegistryError),
}

impl Refused {
    /// Who it is.
    pub(crate) fn by(&self) -> RefusedBy {
        match self {
            Self::Restart(_) => RefusedBy::Restart,
            Self::Health(_) => RefusedBy::Health,
            Self::Vrrp(_) => RefusedBy::Vrrp,
            Self::Host(_) => RefusedBy::Host,
            Self::Registry(_) => RefusedBy::Registry,
        }
    }
}

impl From<&Refused> for Refusal {
    fn from(refused: &Refused) -> Self {
        let kind = match refused {
            Refused::Restart(_) => Kind::NeedsRestart,
            Refused::Health(_) | Refused::Vrrp(_) | Refused::Host(_) => Kind::Busy,
            Refused::Registry(RegistryError::NotServed { .. }) => Kind::NotServed,
            Refused::Registry(_) => Kind::Invalid,
        };
        refusal(kind, refused.to_string())
    }
}

/// What came of edits that are not refused.
#[derive(Debug)]
pub(crate) enum Tried {
    /// They are made, or would be.
    Made(Applied),
    /// It takes longer than the pace allows, and nothing was done.
    TakesLonger,
    /// Nothing was done: these are to be found on this host first, with this account for programs.
    Needs(Vec<Problem>, Health),
}

/// How long edits may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A moment of control's: what takes longer is not begun.
    AtOnce,
    /// What it takes, beside control.
    Beside,
}

/// Edits that are made at once; a longer list is made beside control.
const AT_ONCE_MAX: usize = 32;
/// Octets in them at most: what is longer is read beside control.
const AT_ONCE_OCTETS_MAX: usize = 16 * 1024;

/// See the module.
pub(crate) struct Apply {
    publish: Publish,
    desired: Desired,
    health: Handle,
    vrrp: VrrpControl,
    host: Option<HostControl>,
}

impl Apply {
    /// With all parts; `host` if there are host interfaces.
    pub(crate) fn new(
        (publish, editor): (Publish, Editor),
        health: Handle,
        vrrp: VrrpControl,
        host: Option<HostControl>,
    ) -> Self {
        Self { publish, desired: Desired::new(editor), health, vrrp, host }
    }

    /// Who puts what is served in force, for what is no draft: verdicts and announcements.
    pub(crate) fn publish(&mut self) -> &mut Publish {
        &mut self.publish
    }

    /// Tells what is in force from what was before.
    pub(crate) fn revision(&self) -> u64 {
        self.publish.revision()
    }

    /// What is in force, as it was drafted.
    pub(crate) fn file(&self) -> Arc<Config> {
        self.publish.file()
    }

    /// What is desired: the file in force, and the edits since.
    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Makes edits, all of them or none. What they need of this host and is not among what was `found` they need first.
    ///
    /// # Errors
    /// Why not; everything is as it was then.
    pub(crate) fn edit(
        &mut self,
        edits: &[Edit],
        is_dry_run: bool,
        pace: Pace,
        found: &Found,
    ) -> Result<Tried, Refusal> {
        let is_short = edits.len() <= AT_ONCE_MAX
            && !edits.contains(&Edit::Clear)
            && edits.iter().map(Edit::size).sum::<usize>() <= AT_ONCE_OCTETS_MAX;
        if pace == Pace::AtOnce && !is_short {
            return Ok(Tried::TakesLonger);
        }
        let file = self.publish.file();
        let mut staged = self.desired.stage(&file, edits).map_err(of_edit)?;
        let needs = found.missing(std::mem::take(&mut staged.needs), &file.health);
        if !needs.is_empty() {
            return Ok(Tried::Needs(needs, file.health.clone()));
        }
        drop(file);
        let applied = Applied { applied: edits.len(), warnings: staged.warnings.clone() };
        if is_dry_run {
            return Ok(Tried::Made(applied));
        }
        let place = self.health.place_for_edits().map_err(|why| Refusal::from(&Refused::Health(why)))?;
        let (removed, changed) = for_health(&staged);
        match (self.publish.amend(&staged.steps), pace) {
            (Ok(true), _) => self.desired.commit(self.publish.file_mut(), staged),
            (Ok(false) | Err(_), Pace::AtOnce) => return Ok(Tried::TakesLonger),
            // As a whole it may have numbers again that were given back.
            (Ok(false) | Err(_), Pace::Beside) => self.edit_in_whole(staged)?,
        }
        if !(removed.is_empty() && changed.is_empty()) {
            place.edit(removed, changed);
        }
        Ok(Tried::Made(applied))
    }

    fn edit_in_whole(&mut self, staged: Staged) -> Result<(), Refusal> {
        let (mut desired, mut next) = (self.desired.clone(), Config::clone(&self.publish.file()));
        let steps = staged.steps.clone();
        desired.commit(&mut next, staged);
        let done = self.publish.put_edited(next, &steps);
        done.map_err(|why| Refusal::from(&Refused::Registry(why)))?;
        self.desired = desired;
        Ok(())
    }

    /// Puts a draft in force, with the edits since the file was read last or without them; a dry run changes nothing.
    ///
    /// # Errors
    /// Who refuses; everything is as it was then.
    pub(crate) fn apply(&mut self, draft: Draft, wanted: Reload) -> Result<Reloaded, Refused> {
        let Draft { mut config, editor, numbers } = draft;
        let former = self.publish.file();
        // As saved: edits made again would hide what is written there later.
        let holds_edits = self.desired.edits() > 0 && compare::is_same(&former, &config);
        let (desired, Dropped { count, named }) = match holds_edits {
            true => (Desired::new(editor), Dropped::default()),
            false => self.desired.replaced_by(editor, &mut config, wanted.keep_edits),
        };
        if let Some(keys) = needs_restart(&former, &config) {
            return Err(Refused::Restart(keys));
        }
        let changed = compare::changes(&former, &config, &self.publish.shared().load());
        let reloaded = Reloaded { changed, dropped_edits: count, dropped: named, warnings: Vec::new() };
        if wanted.dry_run {
            weir_dataplane::snapshot::registry::check(&config).map_err(Refused::Registry)?;
            return Ok(reloaded);
        }
        let config = Arc::new(config);
        let place = self.health.place().map_err(Refused::Health)?;
        let instances = self.vrrp.prepare(&former, &config, &numbers).map_err(Refused::Vrrp)?;
        let addresses = match &self.host {
            Some(host) => host.prepare(&former, &config).map_err(Refused::Host)?,
            None => None,
        };
        self.publish.put(config.clone()).map_err(Refused::Registry)?;
        if let Some(addresses) = addresses {
            addresses.commit();
        }
        place.configure(config);
        if let Some(instances) = instances {
            self.vrrp.commit(instances);
        }
        self.desired = desired;
        Ok(reloaded)
    }
}

/// What health checks are told of edits: who is gone, and who is new or changed.
fn for_health(staged: &Staged) -> (Vec<Identity>, Vec<VirtualServer>) {
    let (mut removed, mut changed) = (Vec::new(), Vec::new());
    for (identity, now) in staged.outcome() {
        match now {
            Some(server) => changed.push(server.clone()),
            None => removed.push(identity),
        }
    }
    (removed, changed)
}

#[cfg(test)]
pub(crate) mod tests;
