//! `/api/v1/announce`: the routes that may be announced, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use weir_api::announce::{Listing, Route};

use crate::announce::status::Announcement;

/// The page.
pub(super) fn render(routes: &[Announcement]) -> Result<Vec<u8>, String> {
    let now = SystemTime::now();
    let listing = Listing { routes: routes.iter().map(|it| route(it, now)).collect() };
    serde_json::to_vec(&listing).map_err(|problem| problem.to_string())
}

fn route(it: &Announcement, now: SystemTime) -> Route<'_> {
    let Announcement { net, table, interface, state, metric, since, virtual_servers, instance, problem } = it;
    Route {
        route: net.to_string().into(),
        table: *table,
        interface: interface.into(),
        state: state.name().into(),
        why: state.why().map(Into::into),
        metric: *metric,
        since: since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        since_seconds: now.duration_since(*since).unwrap_or_default().as_secs_f64(),
        virtual_servers: virtual_servers.iter().map(Into::into).collect(),
        vrrp: instance.as_deref().map(Into::into),
        problem: problem.as_deref().map(Into::into),
    }
}
