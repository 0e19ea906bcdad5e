//! Sync groups: instances that are master together or not at all.
//!
//! A director that has one address on the outside and another inside is of no use with one of them alone. So:
//! * A member whose down timer fires waits until all others want to be master too.
//! * One that stops being master takes the others along.
//! * So does one that hears a master and leaves it in place. Members are master together unless a reload has put them
//!   together; then one that another router holds takes the others to backup, and one that nobody holds joins them.
//! * A fault of one is a fault of all.
//! * What tracking adds to the priority of one it adds to all: they stay together.

use crate::instance::Instance;
use crate::machine::State;
use crate::track::Condition;

/// The members of a group, by their place among the instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) members: Vec<usize>,
    /// The state that it was last said to be in.
    pub(crate) told: Option<State>,
}

impl Group {
    /// The groups that the instances name. `former` ones have been told of.
    pub(crate) fn all(instances: &[Instance], former: &[Group]) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (index, instance) in instances.iter().enumerate() {
            let Some(name) = &instance.settings().group else { continue };
            match groups.iter_mut().find(|group| group.name == *name) {
                Some(group) => group.members.push(index),
                None => {
                    let told = former.iter().find(|group| group.name == *name).and_then(|group| group.told);
                    groups.push(Group { name: name.clone(), members: vec![index], told });
                }
            }
        }
        groups
    }

    /// Whether every member wants to be master and one is not yet.
    pub(crate) fn is_ready(&self, instances: &[Instance]) -> bool {
        let mut members = self.members.iter().map(|&index| &instances[index]);
        let wants = members.clone().all(|member| member.machine.wants_master());
        wants && members.any(|member| member.state() != State::Master)
    }

    /// What the trackers of all members say together.
    pub(crate) fn condition(&self, instances: &[Instance]) -> Condition {
        let mut sum = Condition::default();
        for &index in &self.members {
            let own = &instances[index].condition;
            sum.weight += own.weight;
            sum.fault = sum.fault.or_else(|| own.fault.clone());
            sum.is_unknown |= own.is_unknown;
        }
        sum
    }
}
