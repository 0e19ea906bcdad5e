//! Changes of a few virtual servers: what they cost is in proportion to them, but for a look along the list of all.

use std::collections::BTreeSet;

use weir_config::model::{Identity, VirtualServer};

use super::service::{self, Service};
use super::{Judge, Moment};

impl Judge {
    /// Takes over virtual servers that are new or changed, after those that are gone. What they have in common with what was there
    /// is left alone, as by [`Judge::configure`]; a new one is the last of the list.
    pub fn edit(&mut self, removed: &[Identity], changed: &[VirtualServer], now: Moment) {
        self.configurations += 1;
        // Targets that may have lost the last one that looked at them.
        let mut left = BTreeSet::new();
        for identity in removed {
            if let Some(number) = self.number(identity) {
                self.detach(number, &mut left);
                self.services.remove(number);
                let members = self.targets.iter_mut().flatten().flat_map(|target| &mut target.members);
                members.filter(|(of, _)| *of > number).for_each(|(of, _)| *of -= 1);
                self.standings.remove(identity);
                self.news.overlay = true;
                self.news.quorums = true;
            }
        }
        for file in changed {
            let known = self.number(&file.identity());
            let (number, service) = match known {
                Some(number) => {
                    self.detach(number, &mut left);
                    let empty = Service::new(file, None, now);
                    let old = std::mem::replace(&mut self.services[number], empty);
                    self.news.quorums |= old.name != file.name;
                    (number, Service::new(file, Some(old), now))
                }
                None => {
                    self.news.quorums = true;
                    let service = Service::new(file, None, now);
                    self.services.push(Service::new(file, None, now));
                    (self.services.len() - 1, service)
                }
            };
            self.services[number] = service;
            self.attach(number, file, now);
            let mut events = std::mem::take(&mut self.events);
            self.services[number].settle(&self.targets, now, &mut events);
            self.events = events;
            self.stand(number);
        }
        left.into_iter().for_each(|number| self.forget_if_left(number));
    }

    fn number(&self, identity: &Identity) -> Option<usize> {
        self.services.iter().position(|service| service.identity == *identity)
    }

    /// Its targets are looked at by others alone from now on.
    fn detach(&mut self, number: usize, left: &mut BTreeSet<usize>) {
        for target in self.services[number].members.iter().flat_map(|member| &member.targets) {
            if let Some(known) = &mut self.targets[*target] {
                known.members.retain(|(of, _)| *of != number);
            }
            left.insert(*target);
        }
    }

    /// Has its real servers look at their targets.
    pub(super) fn attach(&mut self, number: usize, file: &VirtualServer, now: Moment) {
        for (place, real) in file.real_servers.iter().enumerate() {
            let known = self.services[number].members[place].known();
            for key in service::keys(file, real) {
                let target = self.target(key, known, now);
                self.targets[target].iter_mut().for_each(|target| target.members.push((number, place)));
                self.services[number].members[place].targets.push(target);
            }
        }
    }
}
