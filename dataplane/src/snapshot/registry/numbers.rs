//! Numbers of real servers that are free: low ones first, so that what is looked up by number stays small.

use hashbrown::HashSet;

use super::RegistryError;
use crate::conn::record::ServerId;

/// See the module.
pub(super) struct Numbers {
    /// Falling.
    free: Vec<u32>,
    /// Free from here on.
    next: u32,
}

impl Default for Numbers {
    /// All of them; 0 is nobody's.
    fn default() -> Self {
        Self { free: Vec::new(), next: 1 }
    }
}

impl Numbers {
    /// All but these.
    pub(super) fn without(used: impl Iterator<Item = ServerId>) -> Self {
        let used: HashSet<u32> = used.map(|id| id.0).collect();
        let next = used.iter().max().map_or(1, |most| most + 1);
        Self { free: (1..next).rev().filter(|number| !used.contains(number)).collect(), next }
    }

    /// The lowest one.
    pub(super) fn take(&mut self) -> Result<ServerId, RegistryError> {
        if let Some(number) = self.free.pop() {
            return Ok(ServerId(number));
        }
        if self.next > ServerId::MAX {
            return Err(RegistryError::TooManyServers);
        }
        self.next += 1;
        Ok(ServerId(self.next - 1))
    }

    /// How many are left below the highest that was given, and how high that is: the same when none was taken.
    pub(super) fn state(&self) -> (usize, u32) {
        (self.free.len(), self.next)
    }
}
