//! The ports' links: the log says when one goes or comes, and VIPs are announced once more when one comes. What was
//! announced while it was down, as at the start of a device that takes seconds to find its link, nobody has heard.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::sources::PortSource;

/// How often devices are asked: some read registers of the PHY for it.
const INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Links {
    /// By port number: what it was when it was last known.
    was_up: Vec<bool>,
    next: Instant,
}

impl Links {
    /// As the links are now.
    pub(crate) fn new(ports: &[PortSource], now: Instant) -> Self {
        let was_up = ports.iter().map(|port| port.device.link_up().unwrap_or(true)).collect();
        Self { was_up, next: now + INTERVAL }
    }

    /// Whether any port has one, as far as is known.
    pub(crate) fn has_any(&self) -> bool {
        self.was_up.contains(&true)
    }

    /// Looks at the links, if it is time to. Returns whether one has come up since the last time.
    pub(crate) fn look(&mut self, ports: &[PortSource], now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + INTERVAL;
        let mut has_come = false;
        for (port, was_up) in ports.iter().zip(&mut self.was_up) {
            let Some(is_up) = port.device.link_up().filter(|is_up| is_up != was_up) else { continue };
            *was_up = is_up;
            has_come |= is_up;
            if is_up {
                info!(port = port.name, "the link is up");
            } else {
                warn!(port = port.name, "the link is down");
            }
        }
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::FakeDevice;

    #[test]
    fn a_link_that_comes_up_is_noticed_once() {
        let device = FakeDevice::default();
        let set = |is_up: Option<bool>| device.0.lock().unwrap().1 = is_up;
        set(Some(false));
        let ports = [
            PortSource::new("wan".into(), device.clone()),
            PortSource::new("lan".into(), FakeDevice::default()),
        ];
        let mut now = Instant::now();
        let mut links = Links::new(&ports, now);
        let mut look = |is_up| {
            set(is_up);
            now += INTERVAL;
            links.look(&ports, now)
        };
        let seen = [Some(false), Some(true), Some(true), None, Some(true), Some(false), None, Some(true)]
            .map(&mut look);
        assert_eq!(seen, [false, true, false, false, false, false, false, true]);
    }

    #[test]
    fn links_that_are_up_from_the_start_are_nothing_new_and_not_asked_for_all_the_time() {
        let device = FakeDevice::default();
        device.0.lock().unwrap().1 = Some(true);
        let ports = [PortSource::new("wan".into(), device.clone())];
        let now = Instant::now();
        let mut links = Links::new(&ports, now);
        assert!(!links.look(&ports, now + INTERVAL));
        device.0.lock().unwrap().1 = Some(false);
        assert!(!links.look(&ports, now + INTERVAL * 2));
        device.0.lock().unwrap().1 = Some(true);
        assert!(!links.look(&ports, now + INTERVAL * 2), "it is not time yet");
        assert!(links.look(&ports, now + INTERVAL * 3));
    }
}
