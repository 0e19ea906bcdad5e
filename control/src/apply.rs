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

use weir_config::model::Config;
use weir_dataplane::snapshot::registry::RegistryError;
use weir_health::checker::{Handle, NotTaken};

use crate::host::addresses::{HostControl, HostRefusal};
use crate::publish::Publish;
use crate::reload_status::RefusedBy;
use crate::restart::needs_restart;
use crate::vrrp::control::VrrpControl;
use crate::vrrp::orders::VrrpRefusal;
use crate::vrrp::settings::Numbers;

/// What is to be in force instead of what is.
pub(crate) struct Draft {
    config: Config,
    /// Of VRRP's instances that are new with it.
    numbers: Numbers,
}

impl Draft {
    /// A checked configuration, with the numbers that were kept of its new instances of VRRP.
    pub(crate) fn new(config: Config, numbers: Numbers) -> Self {
        Self { config, numbers }
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

/// See the module.
pub(crate) struct Apply {
    publish: Publish,
    health: Handle,
    vrrp: VrrpControl,
    host: Option<HostControl>,
}

impl Apply {
    /// With all parts; `host` if there are host interfaces.
    pub(crate) fn new(
        publish: Publish,
        health: Handle,
        vrrp: VrrpControl,
        host: Option<HostControl>,
    ) -> Self {
        Self { publish, health, vrrp, host }
    }

    /// Who puts what is served in force, for what is no draft: verdicts and announcements.
    pub(crate) fn publish(&mut self) -> &mut Publish {
        &mut self.publish
    }

    /// What is in force, as it was drafted.
    pub(crate) fn file(&self) -> Arc<Config> {
        self.publish.file()
    }

    /// Puts a draft in force.
    ///
    /// # Errors
    /// Who refuses; everything is as it was then.
    pub(crate) fn apply(&mut self, Draft { config, numbers }: Draft) -> Result<(), Refused> {
        let former = self.publish.file();
        if let Some(keys) = needs_restart(&former, &config) {
            return Err(Refused::Restart(keys));
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
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
