//! When the addresses of a master are announced: a burst at take-over, a second one a few seconds later for those that
//! missed it (an interface or switch port that was not ready), then at long intervals if asked for.

use std::net::IpAddr;
use std::time::Duration;

use crate::settings::Announce;
use crate::time::Micros;

/// Announcements in one go, so that hundreds of addresses do not fill a ring.
const BATCH: usize = 16;
/// Between two batches.
const BATCH_PAUSE: Duration = Duration::from_millis(1);
/// Between two bursts because of other masters: a flood of advertisements must not become one of announcements.
const AGAIN_INTERVAL: Duration = Duration::from_secs(1);
/// An address that somebody else claims is announced this often at most.
pub const DEFENCE_INTERVAL: Duration = Duration::from_secs(1);

/// A burst under way.
#[derive(Debug, Clone, Copy)]
struct Burst {
    due: Micros,
    /// Rounds over all addresses, the present one included.
    rounds: u8,
    /// The next address of the round.
    next: usize,
}

/// The announcements of one instance.
#[derive(Debug, Clone, Default)]
pub struct Announcer {
    burst: Option<Burst>,
    /// When the second burst comes, and its rounds.
    second: Option<(Micros, u8)>,
    refresh: Option<Micros>,
    /// When the last burst because of another master began.
    again: Option<Micros>,
    /// When the next one is due, and its rounds.
    owed: Option<(Micros, u8)>,
}

impl Announcer {
    /// The instance has become master.
    pub fn start(&mut self, plan: &Announce, now: Micros) {
        self.burst(plan.repeat, plan.delay, now);
        self.refresh = (!plan.refresh.is_zero()).then(|| now + plan.refresh);
    }

    /// Another router was master, and may have announced the addresses as well or answered for them. A burst under way is
    /// enough; soon after the last one it waits for its turn, since the other may have gone on meanwhile.
    pub fn again(&mut self, plan: &Announce, now: Micros) {
        if self.burst.is_some() || self.owed.is_some() || plan.lower_priority_repeat == 0 {
            return;
        }
        match self.again.map(|last| last + AGAIN_INTERVAL).filter(|next| now < *next) {
            Some(next) => self.owed = Some((next, plan.lower_priority_repeat)),
            None => {
                self.again = Some(now);
                self.burst(plan.lower_priority_repeat, plan.lower_priority_delay, now);
            }
        }
    }

    /// The addresses are different ones now.
    pub fn restart(&mut self, plan: &Announce, now: Micros) {
        self.start(plan, now);
    }

    fn burst(&mut self, rounds: u8, delay: Duration, now: Micros) {
        self.burst = (rounds > 0).then_some(Burst { due: now, rounds, next: 0 });
        self.second = (rounds > 0 && !delay.is_zero()).then(|| (now + delay, rounds));
    }

    /// The instance is no longer master.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// When [`Announcer::due`] has something.
    pub fn deadline(&self) -> Option<Micros> {
        let later = [self.second, self.owed].map(|burst| burst.map(|(due, _)| due));
        [self.burst.map(|burst| burst.due), later[0], later[1], self.refresh].into_iter().flatten().min()
    }

    /// The addresses to announce now, a few at a time.
    pub fn due<'a>(&mut self, plan: &Announce, addresses: &'a [IpAddr], now: Micros) -> &'a [IpAddr] {
        if let Some((_, rounds)) = self.second.take_if(|(due, _)| now >= *due) {
            self.burst = Some(Burst { due: now, rounds, next: 0 });
        }
        if let Some((_, rounds)) = self.owed.take_if(|(due, _)| now >= *due) {
            self.again = Some(now);
            self.burst = Some(Burst { due: now, rounds, next: 0 });
        }
        if let Some(due) = self.refresh.filter(|due| now >= *due) {
            self.refresh = Some(if now.since(due) < plan.refresh { due } else { now } + plan.refresh);
            self.burst.get_or_insert(Burst { due: now, rounds: plan.refresh_repeat, next: 0 });
        }
        let Some(burst) = self.burst.as_mut().filter(|burst| now >= burst.due) else { return &[] };
        let from = burst.next.min(addresses.len());
        let (batch, pause) = match plan.interval.is_zero() {
            true => (BATCH, BATCH_PAUSE),
            false => (1, plan.interval),
        };
        let to = (from + batch).min(addresses.len());
        burst.next = to;
        burst.due = now + pause;
        if to == addresses.len() {
            burst.next = 0;
            burst.rounds = burst.rounds.saturating_sub(1);
            if burst.rounds == 0 {
                self.burst = None;
            }
        }
        &addresses[from..to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Announcements of each moment in milliseconds, up to a limit.
    fn schedule(plan: &Announce, addresses: usize, until_ms: u64) -> Vec<(u64, usize)> {
        let addresses: Vec<IpAddr> = (0..addresses as u32).map(|a| Ipv4Addr::from(a).into()).collect();
        let mut announcer = Announcer::default();
        announcer.start(plan, Micros(0));
        let mut sent = Vec::new();
        while let Some(now) = announcer.deadline().filter(|now| now.0 <= until_ms * 1000) {
            sent.push((now.0 / 1000, announcer.due(plan, &addresses, now).len()));
        }
        sent
    }

    #[test]
    fn five_at_once_and_five_more_after_five_seconds() {
        let sent = schedule(&Announce::default(), 1, 1_000_000);
        assert_eq!(sent.iter().filter(|(at, _)| *at < 5).map(|(_, n)| n).sum::<usize>(), 5);
        assert_eq!(sent.iter().filter(|(at, _)| (5000..5005).contains(at)).map(|(_, n)| n).sum::<usize>(), 5);
        assert_eq!(sent.iter().map(|(_, n)| n).sum::<usize>(), 10);
    }

    #[test]
    fn many_addresses_are_spread_over_time() {
        let plan = Announce { repeat: 2, delay: Duration::ZERO, ..Announce::default() };
        let sent = schedule(&plan, 255, 1_000);
        assert!(sent.iter().all(|(_, n)| *n <= BATCH));
        assert_eq!(sent.iter().map(|(_, n)| n).sum::<usize>(), 510);
        assert_eq!(sent.last().unwrap().0, 31);
    }

    #[test]
    fn an_interval_keeps_announcements_apart() {
        let plan = Announce {
            repeat: 2,
            delay: Duration::ZERO,
            interval: Duration::from_millis(100),
            ..Announce::default()
        };
        let sent = schedule(&plan, 3, 10_000);
        assert_eq!(sent, [(0, 1), (100, 1), (200, 1), (300, 1), (400, 1), (500, 1)]);
    }

    #[test]
    fn a_refresh_comes_again_and_again() {
        let refresh = Duration::from_secs(60);
        let plan = Announce { refresh, refresh_repeat: 2, delay: Duration::ZERO, ..Announce::default() };
        let sent = schedule(&plan, 1, 180_500);
        let at = |from: u64| sent.iter().filter(|(at, _)| (from..from + 5).contains(at)).count();
        assert_eq!([at(60_000), at(120_000), at(180_000), sent.len()], [2, 2, 2, 11]);
    }

    #[test]
    fn another_master_starts_no_burst_beside_one_that_is_under_way() {
        let (plan, addresses) = (Announce::default(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        let mut announcer = Announcer::default();
        announcer.start(&plan, Micros(0));
        announcer.again(&plan, Micros(1));
        let mut sent = 0;
        while let Some(now) = announcer.deadline() {
            sent += announcer.due(&plan, &addresses, now).len();
        }
        assert_eq!(sent, 10);
        announcer.again(&plan, Micros(10_000_000));
        assert_eq!(announcer.deadline(), Some(Micros(10_000_000)));
    }

    #[test]
    fn a_flood_of_other_masters_causes_a_burst_a_second_and_one_after_it() {
        let plan =
            Announce { delay: Duration::ZERO, lower_priority_delay: Duration::ZERO, ..Announce::default() };
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let mut announcer = Announcer::default();
        let mut sent = Vec::new();
        for now in (0..3_500_000).step_by(500) {
            announcer.again(&plan, Micros(now));
            if announcer.deadline().is_some_and(|due| due.0 <= now)
                && !announcer.due(&plan, &addresses, Micros(now)).is_empty()
            {
                sent.push(now);
            }
        }
        assert_eq!(sent.len(), 20, "{sent:?}");
        let last = announcer.deadline().unwrap();
        assert!(
            (3_900_000..4_100_000).contains(&last.0),
            "the last of the flood is answered as well: {last:?}"
        );
    }
}
