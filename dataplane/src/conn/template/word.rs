//! A template: its key (`key.rs`), and everything that changes, in one word.
//!
//! ```text
//!  value  | extended 1 | assured 1 | pending 1 | connections 19 | last use 22 | real server 20 |
//! ```
//! A value without a real server is a free slot; it keeps the last use of the template that was there, for the
//! reason given in the parent module. The last use is in seconds modulo 2^22 (48 days).

use std::net::IpAddr;

use super::key::{Key, Owner};
use crate::conn::record::ServerId;

/// A template that is past its time lives on in steps of so many seconds while connections hang on it.
pub const STEP_SECS: u32 = 60;
/// The longest persistence timeout, in seconds: 31 days. Anything above counts as this.
pub const LIFETIME_SECS_MAX: u32 = 2_678_400;
/// Connections that can hang on one template at the same time.
pub const CONNECTIONS_MAX: u32 = (1 << CONNECTIONS_BITS) - 1;

/// How far the clocks of two threads may be apart, in seconds.
const SKEW_SECS: u32 = 60;

const LAST_BITS: u32 = 22;
const LAST_SHIFT: u32 = 20;
const LAST_MASK: u32 = (1 << LAST_BITS) - 1;
const CONNECTIONS_BITS: u32 = 19;
const CONNECTIONS_SHIFT: u32 = LAST_SHIFT + LAST_BITS;
const CONNECTION: u64 = 1 << CONNECTIONS_SHIFT;
const PENDING: u64 = 1 << 61;
const ASSURED: u64 = 1 << 62;
const EXTENDED: u64 = 1 << 63;

// The rest of the circle, 17 days, is the time within which the sweep has to come by.
const _: () = assert!(LIFETIME_SECS_MAX + SKEW_SECS < LAST_MASK / 3 * 2);
const _: () = assert!(ServerId::MAX < 1 << LAST_SHIFT && CONNECTIONS_SHIFT + CONNECTIONS_BITS == 61);

/// A template as it was at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<K> {
    pub(super) key: K,
    pub(super) word: Word,
}

/// A template of either family, without its clients.
pub type Listed = Template<Owner>;

impl<K: Key> Template<K> {
    /// Whom it ties.
    #[cfg(test)]
    pub(crate) fn key(self) -> K {
        self.key
    }

    /// Whose it is.
    #[inline(always)]
    pub fn owner(self) -> Owner {
        self.key.owner()
    }

    /// The first address of whom it ties, and all else.
    pub fn listed(self) -> (IpAddr, Listed) {
        (self.key.address(), Template { key: self.key.owner(), word: self.word })
    }
}

impl Template<Owner> {
    /// Whose it is.
    pub fn whose(self) -> Owner {
        self.key
    }
}

impl<K> Template<K> {
    /// The real server that it ties them to.
    pub fn server(self) -> ServerId {
        self.word.server()
    }

    /// Connections that hang on it, at most [`CONNECTIONS_MAX`].
    pub fn connections(self) -> u32 {
        self.word.connections()
    }

    /// Whether one of its connections was ever established: `ASSURED` in listings, else `NONE`.
    pub fn is_assured(self) -> bool {
        self.word.is_assured()
    }

    /// Seconds until its timer fires, or `None` when it is over and waits for the sweep only. `lifetime` is the
    /// virtual server's persistence timeout.
    pub fn expires_in(self, lifetime: u32, now: u32) -> Option<u32> {
        let word = self.word.aged(lifetime, now)?;
        Some(word.life(lifetime) - word.age(now))
    }
}

/// The value word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// What goes into the free slot `self`: a template that nobody takes for one until it is settled. Its last use
    /// lies after that of any template that was there before.
    pub(super) fn claimed(self, server: ServerId, now: u32) -> Self {
        debug_assert!(server.0 != 0 && server.0 <= ServerId::MAX);
        let after = (self.last() + 1) & LAST_MASK;
        let last = if before(now, after) { after } else { now };
        Self(u64::from(server.0) | PENDING).with_last(last)
    }

    /// The template, no longer pending.
    pub(super) fn settled(self) -> Self {
        Self(self.0 & !PENDING)
    }

    /// The free slot that the template leaves.
    pub(super) fn freed(self) -> Self {
        Self(0).with_last(self.last())
    }

    /// A new template of the same key in the place of this one.
    pub(super) fn replaced(self, server: ServerId, now: u32) -> Self {
        debug_assert!(server.0 != 0 && server.0 <= ServerId::MAX);
        Self(u64::from(server.0)).with_last(self.last()).used(now)
    }

    /// After a new connection: the timer restarts.
    pub(super) fn used(self, now: u32) -> Self {
        if before(now, self.last()) { self } else { self.with_last(now) }
    }

    /// With one connection more; `None`: it can't count more.
    pub(super) fn attached(self) -> Option<Self> {
        (self.connections() < CONNECTIONS_MAX).then_some(Self(self.0.wrapping_add(CONNECTION)))
    }

    /// With one connection less; `None`: there are none.
    pub(super) fn detached(self) -> Option<Self> {
        (self.connections() != 0).then_some(Self(self.0.wrapping_sub(CONNECTION)))
    }

    /// With no connection.
    pub(super) fn alone(self) -> Self {
        Self(self.0 & !(u64::from(CONNECTIONS_MAX) << CONNECTIONS_SHIFT))
    }

    /// Marked as assured; `None`: it is already.
    pub(super) fn assured(self) -> Option<Self> {
        (self.0 & ASSURED == 0).then_some(Self(self.0 | ASSURED))
    }

    /// What has become of the template by `now`; `None`: it is over.
    ///
    /// IPVS's rule, without its timer: the timer fires `lifetime` seconds after the last use. If nothing hangs on
    /// the template then, it is over. Else the timer is set to [`STEP_SECS`], again and again; and because IPVS
    /// never sets it back, a use restarts it with these seconds only, from the first step on.
    pub(super) fn aged(self, lifetime: u32, now: u32) -> Option<Self> {
        let (life, age) = (self.life(lifetime), self.age(now));
        if age <= life {
            return Some(self);
        }
        if self.connections() == 0 {
            return None;
        }
        let whole_steps = (age - life - 1) / STEP_SECS * STEP_SECS;
        let fired = self.last().wrapping_add(life + whole_steps);
        Some(Self(self.with_last(fired).0 | EXTENDED))
    }

    pub(super) fn server(self) -> ServerId {
        ServerId(self.0 as u32 & ServerId::MAX)
    }

    pub(super) fn is_assured(self) -> bool {
        self.0 & ASSURED != 0
    }

    pub(super) fn is_free(self) -> bool {
        self.server().0 == 0
    }

    pub(super) fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// Whether it is a template that counts.
    pub(super) fn is_live(self) -> bool {
        !self.is_free() && !self.is_pending()
    }

    /// Second of the last use, modulo 2^22.
    pub(super) fn last(self) -> u32 {
        (self.0 >> LAST_SHIFT) as u32 & LAST_MASK
    }

    /// Whether the template is over, as [`Word::aged`] has it.
    pub(super) fn is_over(self, lifetime: u32, now: u32) -> bool {
        self.age(now) > self.life(lifetime) && self.connections() == 0
    }

    /// Seconds since the last use; 0 when that lies ahead, by another thread's clock.
    pub(super) fn age(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.last()) & LAST_MASK;
        if age > LAST_MASK - SKEW_SECS { 0 } else { age }
    }

    fn connections(self) -> u32 {
        (self.0 >> CONNECTIONS_SHIFT) as u32 & CONNECTIONS_MAX
    }

    /// Seconds from the last use to the timer.
    fn life(self, lifetime: u32) -> u32 {
        if self.0 & EXTENDED != 0 { STEP_SECS } else { lifetime.min(LIFETIME_SECS_MAX) }
    }

    fn with_last(self, last: u32) -> Self {
        let keep = self.0 & !(u64::from(LAST_MASK) << LAST_SHIFT);
        Self(keep | u64::from(last & LAST_MASK) << LAST_SHIFT)
    }
}

/// Whether `now` lies before `last`, by no more than clocks may be apart.
fn before(now: u32, last: u32) -> bool {
    let ahead = last.wrapping_sub(now) & LAST_MASK;
    ahead != 0 && ahead <= SKEW_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a slot that was last used long before.
    fn template(server: u32, now: u32) -> Word {
        Word(0).with_last(now.wrapping_sub(1_000)).claimed(ServerId(server), now).settled()
    }

    #[test]
    fn a_template_is_over_at_a_glance_as_it_is_on_a_closer_look() {
        bolero::check!().with_type::<(u64, u32, u32)>().for_each(|&(value, lifetime, now)| {
            // Close to the last use, where it matters, and anywhere.
            for (lifetime, now) in
                [(lifetime, now), (lifetime % 300, Word(value).last().wrapping_add(now % 400))]
            {
                let word = Word(value);
                assert_eq!(word.is_over(lifetime, now), word.aged(lifetime, now).is_none());
                assert!(!before(now, word.last()) || word.age(now) == 0);
            }
        });
    }

    #[test]
    fn fields_do_not_touch_each_other() {
        bolero::check!().with_type::<(u32, u32, u8)>().for_each(|&(server, now, connections)| {
            let server = ServerId(server % ServerId::MAX + 1);
            let mut word = template(server.0, now);
            for _ in 0..connections {
                word = word.attached().unwrap();
            }
            let word = word.assured().unwrap();
            assert!(word.is_live() && word.is_assured() && word.assured().is_none());
            assert_eq!((word.server(), word.connections()), (server, u32::from(connections)));
            assert_eq!(word.age(now.wrapping_add(7)), 7);
            let free = word.freed();
            assert!(free.is_free() && !free.is_pending());
            assert_eq!(free.last(), word.last());
        });
    }

    #[test]
    fn connections_stop_at_both_ends() {
        let mut word = template(1, 5);
        assert!(word.detached().is_none());
        for _ in 0..CONNECTIONS_MAX {
            word = word.attached().unwrap();
        }
        assert!(word.attached().is_none());
        assert!(word.is_live() && !word.is_assured());
        assert_eq!(word.server(), ServerId(1));
    }

    #[test]
    fn a_claim_is_used_last_after_whatever_was_in_the_slot() {
        for now in [0, 1, 5_000, LAST_MASK - 1, LAST_MASK, LAST_MASK + 1, u32::MAX] {
            let old = template(3, now).freed();
            for later in [0, 1, 2, 59, 60, 61, 100_000] {
                let new = old.claimed(ServerId(4), now.wrapping_add(later));
                assert_ne!(new.last(), old.last(), "{now} {later}");
                assert!(before(old.last(), new.last()) || later > SKEW_SECS);
            }
            let behind = old.claimed(ServerId(4), now.wrapping_sub(1));
            assert_eq!(behind.last(), (old.last() + 1) & LAST_MASK);
        }
    }

    #[test]
    fn a_template_is_over_when_its_time_has_passed_since_the_last_use() {
        let word = template(1, 1_000);
        assert_eq!(word.aged(300, 1_300), Some(word));
        assert_eq!(word.aged(300, 1_301), None);
        let used = word.used(1_299);
        assert_eq!(used.aged(300, 1_599), Some(used));
        assert_eq!(used.aged(300, 1_600), None);
        assert_eq!(used.used(1_298), used, "a clock that is behind turns nothing back");
        assert_eq!(used.age(1_298), 0);
    }

    #[test]
    fn a_template_with_connections_lives_on_in_steps_of_sixty_seconds() {
        let busy = template(1, 1_000).attached().unwrap();
        let first = busy.aged(300, 1_301).unwrap();
        assert_eq!((first.last(), first.0 & EXTENDED), (1_300, EXTENDED));
        // Looked at late or often, the steps are the same.
        let late = busy.aged(300, 1_543).unwrap();
        assert_eq!(late.last(), 1_540);
        assert_eq!(first.aged(300, 1_400).and_then(|word| word.aged(300, 1_543)), Some(late));
        // The last connection ends at 1,543: the template stays until that step is done.
        let idle = late.detached().unwrap();
        assert_eq!(idle.aged(300, 1_600), Some(idle));
        assert_eq!(idle.aged(300, 1_601), None);
        // A use within the step restarts it with 60 seconds, as IPVS does.
        assert_eq!(idle.used(1_590).aged(300, 1_650), Some(idle.used(1_590)));
        assert_eq!(idle.used(1_590).aged(300, 1_651), None);
    }

    #[test]
    fn listings_count_down_to_the_timer() {
        let word = template(1, 1_000);
        let at = |word, now| Template { key: (), word }.expires_in(300, now);
        assert_eq!((at(word, 1_000), at(word, 1_300), at(word, 1_301)), (Some(300), Some(0), None));
        let busy = word.attached().unwrap();
        assert_eq!((at(busy, 1_301), at(busy, 1_360), at(busy, 1_361)), (Some(59), Some(0), Some(59)));
    }

    #[test]
    fn ages_are_right_over_the_longest_lifetime_and_the_wrap() {
        for start in [0, 1, LAST_MASK - 5, u32::MAX - 5] {
            let word = template(1, start);
            let end = start.wrapping_add(LIFETIME_SECS_MAX);
            assert_eq!(word.aged(u32::MAX, end), Some(word));
            assert_eq!(word.aged(u32::MAX, end.wrapping_add(1)), None);
            assert_eq!(word.aged(u32::MAX, end.wrapping_add(17 * 86_400)), None);
        }
    }
}
