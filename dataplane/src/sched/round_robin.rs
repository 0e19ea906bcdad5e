//! rr and wrr: servers in turn.
//!
//! Both go on behind the server picked last. rr takes the next one that is usable. wrr makes passes over
//! the list, each with a lower weight that a server must have to be taken, from the heaviest down to the
//! greatest common divisor's first step; so heavy servers come more often and are spread over a cycle.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::service::{ServerDescription, Transition, edited};
use super::state::State;
use super::{Servers, gcd};

/// Picks by rr: the next usable server after the last one, which is itself the last to be tried.
pub(super) fn rr(state: &State, servers: &impl Servers) -> Option<usize> {
    let len = servers.len();
    // A state of another version is not in the contract, but must not run over the list's end.
    let next = (state.position.get() as usize).min(len);
    let index = (next..len).chain(0..next).find(|&i| servers.usable(i))?;
    state.position.set(index as u32 + 1);
    Some(index)
}

/// What wrr knows about the weights in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wrr {
    /// Greatest common divisor of the weights above 0; 0 if there are none.
    divisor: u32,
    /// The greatest weight.
    max: u32,
}

impl Wrr {
    pub(super) fn build(servers: &[ServerDescription]) -> Self {
        Self::of(servers.iter().map(|server| server.weight))
    }

    fn of(weights: impl Iterator<Item = u32>) -> Self {
        weights.fold(Self::default(), Self::with)
    }

    fn with(self, weight: u32) -> Self {
        Self { divisor: gcd(self.divisor, weight), max: self.max.max(weight) }
    }

    /// How much lower the weight of the next pass is.
    fn step(self) -> u32 {
        self.divisor.max(1)
    }

    /// The weight of the first pass of a cycle; 0 if no server has a weight. Passes end at 1.
    pub(super) fn top(self) -> u32 {
        self.max - self.max.min(self.step() - 1)
    }

    /// The weight of the present pass after the list became the one that `self` was built from.
    fn pass_weight(self, before: u32) -> u32 {
        if before == 0 || before > self.top() {
            self.top()
        } else if self.step() > 1 {
            before / self.step() * self.step() + 1
        } else {
            before
        }
    }

    /// The weight of the present pass after the list went from `old` to `new` one server at a time:
    /// deletes, edits in place, then adds from the oldest to the newest.
    pub(super) fn pass_weight_after(
        before: u32,
        old: &[ServerDescription],
        new: &[ServerDescription],
    ) -> u32 {
        let transition = Transition::between(old, new);
        let mut pass_weight = before;
        // How many servers have each weight: what counts of a list are its weights, however long it is.
        let mut weights: BTreeMap<u32, usize> = BTreeMap::new();
        old.iter().for_each(|server| *weights.entry(server.weight).or_default() += 1);
        let without = |weights: &mut BTreeMap<u32, usize>, weight: u32| {
            if let Entry::Occupied(mut entry) = weights.entry(weight) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        };
        let mut kept = transition.kept.iter().peekable();
        for (index, gone) in old.iter().enumerate() {
            if kept.next_if(|&&(kept_index, _)| kept_index == index).is_none() {
                without(&mut weights, gone.weight);
                pass_weight = Self::of(weights.keys().copied()).pass_weight(pass_weight);
            }
        }
        for &(before, after) in &transition.kept {
            if edited(&old[before], &new[after]) {
                without(&mut weights, old[before].weight);
                *weights.entry(new[after].weight).or_default() += 1;
                pass_weight = Self::of(weights.keys().copied()).pass_weight(pass_weight);
            }
        }
        let mut wrr = Self::of(weights.keys().copied());
        for server in new[..transition.added].iter().rev() {
            wrr = wrr.with(server.weight);
            pass_weight = wrr.pass_weight(pass_weight);
        }
        pass_weight
    }

    /// Picks in one round, in which each server is picked as often as its weight asks for.
    pub(super) fn round(self, servers: &[ServerDescription]) -> u64 {
        servers.iter().map(|server| u64::from(server.weight / self.step())).sum()
    }

    /// Pass and position after `picks` picks that begin at the head of the list in the pass `pass_weight`, if every
    /// server with a weight is usable.
    ///
    /// Passes that take the same servers are stepped over together, so the work does not depend on the weights.
    pub(super) fn after(
        self,
        servers: &[ServerDescription],
        mut pass_weight: u32,
        mut picks: u64,
    ) -> (u32, u32) {
        let (step, top) = (self.step(), self.top());
        if top == 0 || pass_weight == 0 {
            return (pass_weight, 0);
        }
        let mut weights: Vec<u32> = servers.iter().map(|server| server.weight).collect();
        weights.sort_unstable();
        loop {
            let lighter = weights.partition_point(|&weight| weight < pass_weight);
            let taken = (weights.len() - lighter) as u64;
            let next_weight = weights[..lighter].last().copied().unwrap_or(0);
            let passes = u64::from((pass_weight - next_weight).div_ceil(step));
            let whole = picks.checked_div(taken).unwrap_or(passes);
            if whole < passes {
                pass_weight -= whole as u32 * step;
                picks -= whole * taken;
                let mut takes = servers.iter().enumerate().filter(|(_, server)| server.weight >= pass_weight);
                let last = picks.checked_sub(1).and_then(|before| takes.nth(before as usize));
                return (pass_weight, last.map_or(0, |(index, _)| index as u32 + 1));
            }
            picks -= passes * taken;
            let last_pass = pass_weight - (passes as u32 - 1) * step;
            pass_weight = if last_pass > step { last_pass - step } else { top };
        }
    }

    /// Picks by wrr.
    ///
    /// The walk gives up when a pass that takes every weight has been over the whole list. Passes that can
    /// find nothing, because no usable server is that heavy, are stepped over at once: a pick visits the
    /// list a few times, not once for each weight.
    pub(super) fn pick(&self, state: &State, servers: &impl Servers) -> Option<usize> {
        let (step, top) = (self.step(), self.top());
        if top == 0 {
            return None;
        }
        let start = (state.position.get() as usize).min(servers.len());
        let mut walk = Walk {
            pass_weight: state.pass_weight.get(),
            next: start,
            stop: None,
            restarted: false,
            last_pass: false,
        };
        let picked = loop {
            match walk.find(servers) {
                Found::Server(index) => break Some(index),
                Found::Stop(index) => {
                    state.position.set(index as u32 + 1);
                    break None;
                }
                Found::End => {
                    if !walk.lower(step, top, start, servers) {
                        state.position.set(0);
                        break None;
                    }
                }
            }
        };
        state.pass_weight.set(walk.pass_weight);
        if let Some(index) = picked {
            state.position.set(index as u32 + 1);
        }
        picked
    }
}

/// One search of wrr.
struct Walk {
    pass_weight: u32,
    /// Index to look at next.
    next: usize,
    /// The entry at which the last pass ends, where the search began.
    stop: Option<usize>,
    /// A new cycle began during this search.
    restarted: bool,
    /// The present pass takes every weight above 0.
    last_pass: bool,
}

enum Found {
    Server(usize),
    Stop(usize),
    End,
}

impl Walk {
    /// Goes on to the end of the list.
    fn find(&mut self, servers: &impl Servers) -> Found {
        for index in self.next..servers.len() {
            if !servers.overloaded(index) && servers.weight(index) >= self.pass_weight {
                return Found::Server(index);
            }
            if self.stop == Some(index) {
                return Found::Stop(index);
            }
        }
        Found::End
    }

    /// Turns to the next pass. `false` when every server was tried at the lowest weight.
    fn lower(&mut self, step: u32, top: u32, start: usize, servers: &impl Servers) -> bool {
        if self.pass_weight > step {
            self.pass_weight -= step;
        } else {
            self.pass_weight = top;
            if self.last_pass || start == 0 {
                return false;
            }
            self.restarted = true;
        }
        let heaviest = (0..servers.len())
            .filter(|&i| !servers.overloaded(i))
            .map(|i| servers.weight(i))
            .max()
            .unwrap_or(0);
        let excess = self.pass_weight.saturating_sub(heaviest.max(1));
        // The weights of passes are 1 more than multiples of the step, so this stays at 1 or above.
        self.pass_weight = self.pass_weight.saturating_sub(excess.div_ceil(step) * step).max(1);
        self.last_pass = self.pass_weight <= step;
        self.stop = (self.last_pass && self.restarted && start > 0).then(|| start - 1);
        self.next = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::director_model::{Director, Lcg};

    /// wrr without steps over passes: the kernel's walk, weight by weight.
    fn walk_slowly(wrr: Wrr, position: &mut usize, pass: &mut u32, servers: &impl Servers) -> Option<usize> {
        if wrr.top() == 0 {
            return None;
        }
        let (start, mut next) = (*position, *position);
        let (mut stop, mut restarted, mut last_pass) = (None, false, false);
        loop {
            for index in next..servers.len() {
                if !servers.overloaded(index) && servers.weight(index) >= *pass {
                    *position = index + 1;
                    return Some(index);
                }
                if stop == Some(index) {
                    *position = index + 1;
                    return None;
                }
            }
            next = 0;
            if *pass <= wrr.step() {
                *pass = wrr.top();
                if last_pass || start == 0 {
                    *position = 0;
                    return None;
                }
                restarted = true;
            } else {
                *pass -= wrr.step();
            }
            last_pass = *pass <= wrr.step();
            if last_pass && restarted && start > 0 {
                stop = Some(start - 1);
            }
        }
    }

    #[test]
    fn stepping_over_passes_changes_no_pick() {
        let mut random = Lcg::new(7);
        for _ in 0..3000 {
            let factor = 1 + random.below(4);
            let weights: Vec<u32> = (0..random.below(6)).map(|_| random.below(9) * factor).collect();
            let mut director = Director::new(weir_config::model::Scheduler::Wrr, &weights);
            let wrr = Wrr::build(&director.service.servers);
            let (mut position, mut pass) = (0, director.state.pass_weight.get());
            for _ in 0..30 {
                for server in 0..weights.len() {
                    director.servers[server].overloaded = random.below(3) == 0;
                }
                let slow = walk_slowly(wrr, &mut position, &mut pass, &director.servers);
                assert_eq!(wrr.pick(&director.state, &director.servers), slow, "weights {weights:?}");
                assert_eq!(director.state.position.get() as usize, position);
                assert_eq!(director.state.pass_weight.get(), pass);
            }
        }
    }

    #[test]
    fn a_state_moved_on_is_that_after_so_many_picks() {
        let mut random = Lcg::new(11);
        for _ in 0..2000 {
            let factor = 1 + random.below(5);
            let weights: Vec<u32> = (0..1 + random.below(7)).map(|_| random.below(12) * factor).collect();
            let [mut picked, moved] =
                [(); 2].map(|()| Director::new(weir_config::model::Scheduler::Wrr, &weights));
            let wrr = Wrr::build(&picked.service.servers);
            let picks = random.below(100);
            picked.picks(picks as usize, false);
            let (pass_weight, position) =
                wrr.after(&moved.service.servers, moved.state.pass_weight.get(), picks.into());
            moved.state.pass_weight.set(pass_weight);
            moved.state.position.set(position);
            let mut moved = moved;
            assert_eq!(moved.picks(60, false), picked.picks(60, false), "{weights:?} after {picks}");
        }
    }

    #[test]
    fn workers_together_go_once_over_a_round() {
        let mut random = Lcg::new(12);
        for kind in [weir_config::model::Scheduler::Rr, weir_config::model::Scheduler::Wrr] {
            for _ in 0..300 {
                let workers = 1 + random.below(8);
                let factor = 1 + random.below(3);
                let weights: Vec<u32> = (0..workers).map(|_| (1 + random.below(4)) * factor).collect();
                let model = Director::new(kind, &weights);
                let round = match kind {
                    weir_config::model::Scheduler::Rr => u64::from(workers),
                    _ => Wrr::build(&model.service.servers).round(&model.service.servers),
                };
                let mut counts = vec![0u64; weights.len()];
                for worker in 0..workers {
                    let part = |worker: u32| round * u64::from(worker) / u64::from(workers);
                    let mut director = Director::new(kind, &weights);
                    director.state = State::new(&director.service, worker, workers);
                    for _ in part(worker)..part(worker + 1) {
                        let key = crate::sched::director_model::any_key();
                        counts[director.connect(&key, false).unwrap()] += 1;
                    }
                }
                let wrr = Wrr::build(&model.service.servers);
                for (count, server) in counts.iter().zip(&model.service.servers) {
                    let share = match kind {
                        weir_config::model::Scheduler::Rr => 1,
                        _ => server.weight / wrr.step(),
                    };
                    assert_eq!(*count, u64::from(share), "{weights:?}");
                }
            }
        }
    }

    #[test]
    fn moving_on_by_extreme_weights_is_quick() {
        let weights: Vec<u32> = (0..1000).map(|n| 65_535 - n).collect();
        let director = Director::new(weir_config::model::Scheduler::Wrr, &weights);
        let begun = std::time::Instant::now();
        for worker in 0..64 {
            State::new(&director.service, worker, 64);
        }
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_pick_among_extreme_weights_is_quick() {
        let mut director = Director::new(weir_config::model::Scheduler::Wrr, &[65_535; 300]);
        director.edit(299, 1);
        for server in 0..299 {
            director.servers[server].overloaded = true;
        }
        let wrr = Wrr::build(&director.service.servers);
        for _ in 0..1000 {
            assert_eq!(wrr.pick(&director.state, &director.servers), Some(299));
        }
    }
}
