//! Which virtual servers an overview is asked for.

use std::cmp::Ordering;
use std::collections::HashSet;

use weir_api::overview::SORTS;

use super::super::query::pairs_once;
use super::shot::{Shot, State};
use crate::metrics::reading::VirtualServerReading;

/// Virtual servers of an answer unless the query says how many.
const LIMIT_DEFAULT: usize = 50;
/// Virtual servers of an answer at most.
const LIMIT_MAX: usize = 200;
/// Virtual servers whose real servers are asked for by name.
const OPEN_MAX: usize = 200;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Query {
    /// In lower case.
    search: String,
    only_down: bool,
    sort: &'static str,
    is_descending: bool,
    pub(super) first: usize,
    pub(super) limit: usize,
    open: HashSet<String>,
    unfold: bool,
}

impl Query {
    /// From keys that are all optional.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(in crate::http) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self {
            search: String::new(),
            only_down: false,
            sort: SORTS[0],
            is_descending: false,
            first: 0,
            limit: LIMIT_DEFAULT,
            open: HashSet::new(),
            unfold: false,
        };
        for (key, value) in pairs_once(query, &["open"])? {
            parsed.take(&key, &value)?;
        }
        if parsed.open.len() > OPEN_MAX {
            return Err(format!("open is there more than {OPEN_MAX} times"));
        }
        Ok(parsed)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("search", text) if !text.is_empty() => self.search = text.to_lowercase(),
            ("state", "down") => self.only_down = true,
            ("sort", by) => {
                let known = SORTS.into_iter().find(|known| *known == by);
                self.sort = known.ok_or_else(|| format!("sort is one of {}", SORTS.join(", ")))?;
            }
            ("descending", "yes") => self.is_descending = true,
            ("first", number) => {
                self.first = number.parse().map_err(|_| "first is no number".to_owned())?;
            }
            ("limit", number) => {
                let number = number.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                self.limit = number.ok_or_else(|| format!("limit is not 1 to {LIMIT_MAX}"))?;
            }
            ("open", name) if !name.is_empty() => drop(self.open.insert(name.to_owned())),
            ("unfold", "yes") => self.unfold = true,
            _ => {
                return Err("the query may hold search, state=down, sort, descending=yes, first, limit, open and unfold=yes"
                    .to_owned());
            }
        }
        Ok(())
    }

    /// Whether it asks for the real servers of this virtual server.
    pub(super) fn opens(&self, name: &str) -> bool {
        self.unfold || self.open.contains(name)
    }

    /// The places of those that are looked for, in the order that is asked for.
    pub(super) fn matching(&self, shot: &Shot) -> Vec<usize> {
        let all = &shot.reading.virtual_servers;
        let mut places: Vec<usize> =
            (0..all.len()).filter(|&place| self.wants(&all[place], &shot.states[place])).collect();
        // Places are in order already, and equal ones stay so.
        if self.sort != SORTS[0] {
            places.sort_by(|&left, &right| self.order((shot, left), (shot, right)));
        } else if self.is_descending {
            places.reverse();
        }
        places
    }

    fn wants(&self, server: &VirtualServerReading, state: &State) -> bool {
        if self.only_down && state.servers_down == 0 && !state.is_down() {
            return false;
        }
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        self.search.is_empty()
            || has(&server.name)
            || has(&where_of(server))
            || server.real_servers.iter().any(|real| has(&real.socket))
    }

    fn order(&self, (shot, left): (&Shot, usize), (_, right): (&Shot, usize)) -> Ordering {
        let all = &shot.reading.virtual_servers;
        let (one, other) = (&all[left], &all[right]);
        let order = match self.sort {
            "name" => one.name.cmp(&other.name),
            "address" => place_of(one).cmp(&place_of(other)),
            "state" => shot.states[left].rank().cmp(&shot.states[right].rank()),
            "active" => shot.states[left].active.cmp(&shot.states[right].active),
            "inactive" => shot.states[left].inactive.cmp(&shot.states[right].inactive),
            "connections" => one.rates.connections.cmp(&other.rates.connections),
            "in_packets" => one.rates.in_packets.cmp(&other.rates.in_packets),
            "out_packets" => one.rates.out_packets.cmp(&other.rates.out_packets),
            "in_bytes" => one.rates.in_bytes.cmp(&other.rates.in_bytes),
            "out_bytes" => one.rates.out_bytes.cmp(&other.rates.out_bytes),
            _ => Ordering::Equal,
        };
        if self.is_descending { order.reverse() } else { order }
    }
}

/// Those with a mark last.
fn place_of(server: &VirtualServerReading) -> impl Ord {
    (server.mark, server.address, server.port)
}

/// What a virtual server serves, as people look for it.
fn where_of(server: &VirtualServerReading) -> String {
    match server.mark {
        Some(mark) => format!("mark {mark}"),
        None if server.address.is_ipv6() => format!("[{}]:{}", server.address, server.port),
        None => format!("{}:{}", server.address, server.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart_or_refused_with_a_sentence() {
        let usual = Query::parse("").unwrap();
        assert_eq!((usual.first, usual.limit, usual.sort), (0, 50, "number"));
        let query = "search=Web&state=down&sort=active&descending=yes&first=100&limit=200&open=a&open=b%20c";
        let query = Query::parse(query).unwrap();
        assert_eq!(
            (query.search.as_str(), query.sort, query.first, query.limit),
            ("web", "active", 100, 200)
        );
        assert!(query.only_down && query.is_descending && query.opens("b c") && !query.opens("c"));
        assert!(Query::parse("unfold=yes").unwrap().opens("c"));
        let open: String = (0..=OPEN_MAX).map(|number| format!("open={number}&")).collect();
        for bad in [
            "limit=0",
            "limit=201",
            "limit=x",
            "first=-1",
            "sort=weight",
            "state=up",
            "search=",
            "page=1",
            "descending=no",
            "open=",
            "unfold",
            &open,
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
