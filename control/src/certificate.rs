//! The certificate of the HTTP listener: it goes on to be shown when it has expired, and no client takes it any more. So the log says it
//! beforehand, and metrics, status and doctor have the date.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::http::{Certificate, Keyring, Tally};

/// A certificate is renewed in less.
const SOON_SECONDS: i64 = 14 * 86_400;
/// What goes on being so is said again.
const AGAIN: Duration = Duration::from_secs(86_400);

/// How it stands with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Good,
    Soon,
    Expired,
}

/// See the module.
pub(crate) struct Watch {
    keys: Keyring,
    tally: Arc<Tally>,
    /// What was said last, of which certificate, and when.
    said: Option<(Certificate, Stage, SystemTime)>,
}

impl Watch {
    /// Of the certificate among these keys, whose date is shown there.
    pub(crate) fn new(keys: Keyring, tally: Arc<Tally>) -> Self {
        Self { keys, tally, said: None }
    }

    /// Looks whether there is something to say.
    pub(crate) fn look(&mut self, clock: SystemTime) {
        let keys = self.keys.load();
        self.tally.certify(keys.certificate.as_ref());
        let Some(certificate) = &keys.certificate else {
            self.said = None;
            return;
        };
        let stage = stage(certificate, clock);
        let is_known = self.said.as_ref().is_some_and(|(known, _, _)| known == certificate);
        let is_fresh = self.said.as_ref().is_some_and(|(_, known, when)| {
            *known == stage && clock.duration_since(*when).unwrap_or_default() < AGAIN
        });
        if is_known && is_fresh {
            return;
        }
        for sentence in sentences(certificate, stage, clock) {
            warn!("HTTP: {sentence}");
        }
        self.said = Some((certificate.clone(), stage, clock));
    }
}

fn unix(clock: SystemTime) -> i64 {
    clock.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn stage(certificate: &Certificate, clock: SystemTime) -> Stage {
    match certificate.ends.map(|ends| ends - unix(clock)) {
        Some(..=0) => Stage::Expired,
        Some(..=SOON_SECONDS) => Stage::Soon,
        _ => Stage::Good,
    }
}

fn sentences(certificate: &Certificate, stage: Stage, clock: SystemTime) -> Vec<String> {
    let file = certificate.file.display();
    let left = certificate.ends.unwrap_or_default() - unix(clock);
    let end = match stage {
        Stage::Good => None,
        Stage::Soon => Some(format!("expires in {} h", left / 3_600)),
        Stage::Expired => Some(format!("has expired {} h ago, and clients refuse it", -left / 3_600)),
    };
    let end = end.map(|end| format!("the certificate {file} {end}: put a new one there and reload"));
    end.into_iter().chain(certificate.exposed.clone()).collect()
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::*;
    use crate::http::Keys;

    #[test]
    fn what_is_about_to_expire_is_said_each_day_and_at_each_change() {
        let certificate = |ends, exposed| Certificate {
            file: "/x.pem".into(),
            ends: Some(ends),
            exposed: Option::map(exposed, str::to_owned),
        };
        let keys = |it| {
            let mut keys = Keys::default();
            keys.certificate = Some(it);
            Arc::new(keys)
        };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let ring = Keyring::new(ArcSwap::new(keys(certificate(3_000_000, None))));
        let mut watch = Watch::new(ring.clone(), Arc::default());
        let mut said = |seconds| {
            let before = watch.said.as_ref().map(|it| it.2);
            watch.look(at(seconds));
            let now = watch.said.clone();
            now.filter(|now| before != Some(now.2)).map(|(it, stage, _)| sentences(&it, stage, at(seconds)))
        };
        assert_eq!(said(0), Some(Vec::new()), "there is time");
        assert_eq!(said(1), None);
        let soon = 3_000_000 - SOON_SECONDS as u64;
        let words =
            |text: &str| Some(vec![format!("the certificate /x.pem {text}: put a new one there and reload")]);
        assert_eq!(said(soon), words("expires in 336 h"));
        assert_eq!(said(soon + 3_600), None);
        assert_eq!(said(soon + 86_400), words("expires in 312 h"));
        assert_eq!(said(3_000_000), words("has expired 0 h ago, and clients refuse it"));
        ring.store(keys(certificate(9_000_000, Some("the key is everybody's"))));
        assert_eq!(said(3_000_001), Some(vec!["the key is everybody's".to_owned()]));
        ring.store(Arc::default());
        assert_eq!(said(3_000_002), None);
    }
}
