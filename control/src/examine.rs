//! What edits need of this host: programs, files of certificates, accounts. They are looked for beside control and beside what is in force,
//! since a file system that does not answer may hold that up for ever. Meanwhile verdicts and other edits come into force.
//!
//! Then the edits are made anew: by now they may need something else, which is looked for as well. Who waits is told when it takes too
//! long, and nothing is done. The thread that looks stays until the file system answers, so there are few.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use weir_api::edits::{Kind, Refusal};
use weir_config::model::health::Health;
use weir_config::report::{Need, Problem};

use crate::orders::{EditOrder, refusal};

/// Requests whose needs are looked for at a time.
const LOOKED_FOR_MAX: usize = 8;
/// After this a request is refused: a good file system answers within milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// What is known to be there.
#[derive(Debug, Default)]
pub(crate) struct Found {
    needs: HashSet<Need>,
    /// User and group that run programs: what these may run says nothing about others.
    account: Option<(String, String)>,
}

impl Found {
    /// Those that are still to be looked for.
    pub(crate) fn missing(&self, needs: Vec<Problem>, health: &Health) -> Vec<Problem> {
        match self.account.as_ref() == Some(&account(health)) {
            true => {
                let is_known = |it: &Problem| it.need().is_some_and(|need| self.needs.contains(need));
                needs.into_iter().filter(|it| !is_known(it)).collect()
            }
            false => needs,
        }
    }
}

fn account(health: &Health) -> (String, String) {
    (health.script_user.clone(), health.script_group.clone())
}

/// Edits on their way.
pub(crate) struct Request {
    pub(crate) order: EditOrder,
    pub(crate) found: Found,
    began: Instant,
}

impl Request {
    pub(crate) fn new(order: EditOrder) -> Self {
        Self { order, found: Found::default(), began: Instant::now() }
    }
}

/// What is to be looked for.
pub(crate) struct Search {
    number: u64,
    needs: Vec<Problem>,
    health: Health,
}

/// What was looked for.
pub(crate) struct Searched {
    number: u64,
    found: Found,
    said: Result<(), String>,
}

impl Search {
    /// Looks. May wait for ever.
    pub(crate) fn make(self) -> Searched {
        let Self { number, needs, health } = self;
        let found = Found {
            needs: needs.iter().filter_map(|it| it.need().cloned()).collect(),
            account: Some(account(&health)),
        };
        Searched { number, found, said: weir_health::local::examine_edits(needs, &health) }
    }
}

/// A search that is under way.
struct UnderWay {
    number: u64,
    /// `None`: whoever asked was told that it takes too long.
    request: Option<Request>,
    began: Instant,
    /// What is looked for, in words.
    what: String,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Searches {
    under_way: Vec<UnderWay>,
    next: u64,
}

impl Searches {
    /// Begins to look for what a request needs.
    ///
    /// # Errors
    /// Too many others are looked for.
    pub(crate) fn begin(
        &mut self,
        request: Request,
        needs: Vec<Problem>,
        health: Health,
    ) -> Result<Search, Box<(Request, Refusal)>> {
        if self.under_way.len() >= LOOKED_FOR_MAX {
            let (what, began) = self.oldest().unwrap_or_default();
            let lasts = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
            let text = format!(
                "what {LOOKED_FOR_MAX} other requests name is being looked for, {what} for {lasts:.0} s: its file system may not answer"
            );
            return Err(Box::new((request, refusal(Kind::Busy, text))));
        }
        self.next += 1;
        let (number, began, what) = (self.next, Instant::now(), in_words(&needs));
        self.under_way.push(UnderWay { number, request: Some(request), began, what });
        Ok(Search { number, needs, health })
    }

    /// A search has come to its end. The request, if somebody still waits for it, and what is missing.
    pub(crate) fn end(&mut self, searched: Searched) -> Option<(Request, Result<(), Refusal>)> {
        let Searched { number, found, said } = searched;
        let place = self.under_way.iter().position(|it| it.number == number)?;
        let mut request = self.under_way.swap_remove(place).request?;
        request.found = found.and(request.found);
        Some((request, said.map_err(|text| refusal(Kind::Invalid, text))))
    }

    /// Requests that have waited for too long, with what they are told.
    pub(crate) fn late(&mut self, now: Instant) -> Vec<(Request, Refusal)> {
        let mut late = Vec::new();
        for it in &mut self.under_way {
            let is_late = |request: &mut Request| now.saturating_duration_since(request.began) >= LIMIT;
            let text = || {
                format!(
                    "nothing was done: {} was looked for for {} s, and its file system may not answer",
                    it.what,
                    LIMIT.as_secs()
                )
            };
            late.extend(it.request.take_if(is_late).map(|request| (request, refusal(Kind::Busy, text()))));
        }
        late
    }

    /// What has been looked for for the longest, in words, and since when.
    pub(crate) fn oldest(&self) -> Option<(&str, Option<Instant>)> {
        let oldest = self.under_way.iter().min_by_key(|it| it.began)?;
        Some((&oldest.what, Some(oldest.began)))
    }

    /// Whoever waits hears that there will be no answer.
    pub(crate) fn dismiss(&mut self) {
        self.under_way.iter_mut().for_each(|it| it.request = None);
    }
}

impl Found {
    fn and(mut self, others: Self) -> Self {
        if self.account == others.account {
            self.needs.extend(others.needs);
        }
        self
    }
}

fn in_words(needs: &[Problem]) -> String {
    // An account is known by most, and waits for what asks for one.
    let mut named: Vec<&Need> = needs.iter().filter_map(Problem::need).collect();
    named.sort_by_key(|need| matches!(need, Need::User(_) | Need::Group(_)));
    match named[..] {
        [] => "nothing".to_owned(),
        [one] => one.in_words(),
        [first, ..] => format!("{} (and {} more)", first.in_words(), named.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use weir_api::edits::Applied;

    use super::*;

    fn needs(path: &str) -> Vec<Problem> {
        let text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
             [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n";
        let loaded = weir_config::parse("t", text).unwrap();
        let editor = weir_config::edit::Editor::new(loaded.source, &loaded.config);
        let keys = serde_json::json!({ "notify_up": [path] });
        let id = weir_config::edit::Id::Name("web".to_owned());
        let edit = weir_config::edit::Edit::SetVirtualServer(id, keys.as_object().unwrap().clone());
        editor.stage(&loaded.config, &[edit]).unwrap().needs
    }

    fn request() -> (Request, oneshot::Receiver<Result<Applied, Refusal>>) {
        let (answer, answered) = oneshot::channel();
        (Request::new(EditOrder { edits: Vec::new(), is_dry_run: false, answer }), answered)
    }

    #[test]
    fn what_was_found_is_looked_for_once_as_long_as_the_account_stays() {
        let mut searches = Searches::default();
        let health =
            Health { script_user: "1000".to_owned(), script_group: "1000".to_owned(), ..Health::default() };
        let (asked, _) = request();
        let search = searches.begin(asked, needs("/bin/true"), health.clone()).ok().unwrap();
        let (request, said) = searches.end(search.make()).unwrap();
        assert_eq!(said, Ok(()));
        assert!(request.found.missing(needs("/bin/true"), &health).is_empty());
        assert_eq!(request.found.missing(needs("/bin/false"), &health).len(), 1);
        let other = Health { script_user: "1001".to_owned(), ..health };
        assert_eq!(request.found.missing(needs("/bin/true"), &other).len(), needs("/bin/true").len());
        assert!(searches.oldest().is_none());
    }

    #[test]
    fn who_waits_for_too_long_is_told_and_there_are_few_at_a_time() {
        let mut searches = Searches::default();
        let mut made = Vec::new();
        for _ in 0..LOOKED_FOR_MAX {
            let (asked, answered) = request();
            made.push((
                searches.begin(asked, needs("/silent/check"), Health::default()).ok().unwrap(),
                answered,
            ));
        }
        let (asked, _) = request();
        let (_, refused) = *searches.begin(asked, needs("/bin/true"), Health::default()).err().unwrap();
        assert_eq!(refused.kind, Kind::Busy);
        assert!(refused.text.contains("the program /silent/check"), "{}", refused.text);
        assert!(searches.late(Instant::now()).is_empty());
        let late = searches.late(Instant::now() + LIMIT);
        assert_eq!(late.len(), LOOKED_FOR_MAX);
        assert!(
            late.iter()
                .all(|(_, refused)| refused.text.contains("nothing was done: the program /silent/check"))
        );
        assert!(searches.late(Instant::now() + LIMIT).is_empty(), "once");
        // Its thread is there until it has come to its end.
        assert!(searches.begin(request().0, needs("/bin/true"), Health::default()).is_err());
        let (search, _) = made.pop().unwrap();
        assert!(searches.end(search.make()).is_none(), "nobody waits for it");
        assert!(searches.begin(request().0, needs("/bin/true"), Health::default()).is_ok());
    }
}
