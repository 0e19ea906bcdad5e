//! Templates that another director has told of: they are at hand at once, since all workers share them.

use std::net::IpAddr;

use super::{Full, Key, Ledger, Owner, Template, TemplateKey, TemplateKey6, Templates};
use crate::address::Addr4;
use crate::conn::record::ServerId;

impl Templates {
    /// Ties a network of clients of `netmask` bits to a real server, as of now, unless it is tied to another one: that one was told
    /// before, or is this director's own choice. Returns whether it is. `lifetime_of` is as for [`Ledger::bind`], `lifetime` the
    /// virtual server's.
    ///
    /// # Errors
    /// There is no room.
    pub fn foretell(
        &self,
        (client, netmask): (IpAddr, u8),
        (Owner { service, epoch }, server, is_assured): (Owner, ServerId, bool),
        (lifetime, now): (u32, u32),
        lifetime_of: impl Fn(Owner) -> Option<u32>,
    ) -> Result<bool, Full> {
        let tie = (server, is_assured);
        match client {
            IpAddr::V4(client) => {
                let key = TemplateKey::new(Addr4::from(client), netmask.min(32), service, epoch);
                self.v4.foretell(key, tie, (lifetime, now), |template| lifetime_of(template.owner()))
            }
            IpAddr::V6(client) => {
                let key = TemplateKey6::new(client, netmask.min(128), service, epoch);
                self.v6.foretell(key, tie, (lifetime, now), |template| lifetime_of(template.owner()))
            }
        }
    }
}

impl<K: Key, const LINES: usize> Ledger<K, LINES> {
    fn foretell(
        &self,
        key: K,
        (server, is_assured): (ServerId, bool),
        (lifetime, now): (u32, u32),
        lifetime_of: impl Fn(Template<K>) -> Option<u32>,
    ) -> Result<bool, Full> {
        let bound = self.bind(key, server, lifetime, now, lifetime_of)?;
        if bound.server != server {
            return Ok(false);
        }
        if !bound.is_new {
            self.touch(bound.slot, key, server, lifetime, now);
        }
        if is_assured {
            self.assure(key, server);
        }
        Ok(true)
    }
}
