//! `weirctl top`: the list of servers, again and again, with what is going on above it.

use std::io::{self, IsTerminal as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_api::director::Status;
use weir_api::virtual_servers::Listing;
use weir_api::workers;

use super::{Asked, list, print};
use crate::screen::{Screen, Tone, short, time};
use crate::weir::Problem;

/// Clears the terminal and goes to its first line.
const HOME: &str = "\x1b[H\x1b[2J";

/// Shows until interrupted.
pub(super) fn run(asked: &mut Asked, interval: Duration) -> Result<(), Problem> {
    if !io::stdout().is_terminal() {
        return Err(Problem::Failed("top needs a terminal; `weirctl list` prints once".to_owned()));
    }
    let mut before = None;
    loop {
        let began = Instant::now();
        let status: Status<'static> = asked.client.get("/api/v1/status")?;
        let workers: workers::Listing = asked.client.get("/api/v1/workers")?;
        let mut listing: Listing<'static> = asked.client.get("/api/v1/virtual_servers")?;
        // Those with most to do are what one looks for.
        listing.virtual_servers.sort_by_key(|it| std::cmp::Reverse(it.carried.per_second.in_packets));
        let screen = Screen::stdout();
        let now = Moment::of(&workers);
        let page = page(&status, &listing, before.as_ref().map(|before| now.busy_since(before)), &screen);
        let height = screen.height.unwrap_or(24);
        let shown: Vec<&str> = page.lines().take(height.saturating_sub(1)).collect();
        print(&format!("{HOME}{}\n", shown.join("\n")))?;
        before = Some(now);
        sleep(interval.saturating_sub(began.elapsed()));
    }
}

/// What workers had done at some moment.
struct Moment {
    busy: u64,
    all: u64,
}

impl Moment {
    fn of(listing: &workers::Listing) -> Self {
        let sum = |figure: fn(&workers::Worker) -> u64| {
            listing.workers.iter().map(figure).fold(0, u64::wrapping_add)
        };
        let busy = sum(|it| it.busy_cycles);
        Self { busy, all: busy.wrapping_add(sum(|it| it.idle_cycles)) }
    }

    /// The share of cycles in which there was something to do, in percent.
    fn busy_since(&self, before: &Moment) -> f64 {
        let all = self.all.wrapping_sub(before.all).max(1);
        self.busy.wrapping_sub(before.busy) as f64 * 100.0 / all as f64
    }
}

fn page(status: &Status<'_>, listing: &Listing<'_>, busy: Option<f64>, screen: &Screen) -> String {
    let sum = |figure: fn(&weir_api::virtual_servers::Figures) -> u64| {
        short(
            listing
                .virtual_servers
                .iter()
                .map(|it| figure(&it.carried.per_second))
                .fold(0, u64::saturating_add),
        )
    };
    let state = match status.not_ready.as_slice() {
        [] => screen.paint("ready", Tone::Good),
        missing => screen.paint(&missing.join("; "), Tone::Bad),
    };
    let down = match status.real_servers_down {
        0 => String::new(),
        down => screen.paint(&format!("  {down} real servers down"), Tone::Bad),
    };
    let busy = busy.map_or_else(String::new, |busy| format!("  workers {busy:.0} % busy"));
    format!(
        "weir {}  {state}  up {}{busy}{down}\n\
         {} connections of {}  {} conn/s  {} in pkt/s  {} out pkt/s\n\n{}",
        status.version,
        time(status.uptime_seconds),
        short(status.connections),
        short(status.capacity),
        sum(|it| it.connections),
        sum(|it| it.in_packets),
        sum(|it| it.out_packets),
        list::table(listing).render(screen)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::tests::after;

    #[test]
    fn the_page_fits_a_terminal() {
        let mut weir = after(&["-A -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m"]);
        weir.services[0].name = "web".into();
        let listing = Listing { virtual_servers: weir.services };
        let status = Status {
            version: "0.1.0".into(),
            dpdk_version: "22.11.11".into(),
            started: 0.0,
            uptime_seconds: 61.0,
            not_ready: Vec::new(),
            generation: 1,
            reload_successful: true,
            reload_at: 0.0,
            workers: 1,
            connections: 12_345,
            capacity: 1_048_576,
            virtual_servers: 1,
            real_servers: 1,
            real_servers_serving: 1,
            real_servers_down: 1,
            vrrp_instances: 0,
            vrrp_masters: 0,
            kept: None,
            http_certificate_ends: None,
            http_key_exposed: false,
        };
        let before = Moment { busy: 100, all: 1_000 };
        let busy = Moment { busy: 175, all: 1_100 }.busy_since(&before);
        for width in [80, 200] {
            let shown = page(&status, &listing, Some(busy), &Screen::plain(Some(width)));
            assert!(
                shown
                    .starts_with("weir 0.1.0  ready  up 1 min 1 s  workers 75 % busy  1 real servers down\n"),
                "{shown}"
            );
            assert!(shown.contains("12.3k connections of 1.05M"), "{shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= width), "{shown}");
        }
    }
}
