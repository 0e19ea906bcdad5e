//! `/api/v1/events`: the last lines of weir's log, as JSON.

use weir_api::events::Listing;

use super::query::pairs_once;
use crate::log;

/// What to list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    after: u64,
}

impl Query {
    /// From `after=NUMBER`, which may be left out.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self { after: 0 };
        for (key, value) in pairs_once(query, &[])? {
            parsed.after = match (&*key, value.parse()) {
                ("after", Ok(number)) => number,
                _ => return Err("the query may hold after, the number of an event".to_owned()),
            };
        }
        Ok(parsed)
    }
}

/// The answer to `query`.
pub(super) fn render(query: &Query) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&Listing { events: log::recent(query.after) }).map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_number_or_refused_with_a_sentence() {
        assert_eq!((Query::parse("").unwrap().after, Query::parse("after=7").unwrap().after), (0, 7));
        for bad in ["after", "after=-1", "after=x", "before=1", "after=1&after=1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
