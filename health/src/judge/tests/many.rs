//! Many checks, and a checker that is late: they stay apart, and a list that is edited is as one configured anew.

use super::*;

#[test]
fn checks_that_wait_for_the_start_spread_as_if_it_were_later() {
    let text = SHARED.replace("warmup = 0", "warmup = 2");
    let mut judge = Judge::new(1);
    judge.configure(&parse(&text), Duration::ZERO);
    let first = judge.next_due().unwrap();
    judge.postpone(seconds(5.0));
    assert_eq!(judge.next_due(), Some(first + seconds(5.0)));
    assert_eq!(std::iter::from_fn(|| judge.begin(seconds(10.0))).count(), 2);
}

/// A virtual server of which a thousand real servers, besides those of [`SHARED`], are checked each second.
fn a_thousand_targets() -> String {
    let mut text = SHARED.split("[[virtual_server]]").take(2).collect::<Vec<_>>().join("[[virtual_server]]");
    text = text.replace("interval = 2\n", "interval = 1\n").replace("warmup = 0", "warmup = 1");
    for number in 0..1_000 {
        let (high, low) = (1 + number / 250, 1 + number % 250);
        text += &format!("[[virtual_server.real_server]]\naddress = \"10.0.{high}.{low}\"\n");
    }
    text
}

/// Thousands of targets that are each begun a little late, as by a checker that looks each few milliseconds.
#[test]
fn lateness_neither_adds_up_nor_bunches_checks() {
    let mut bench = Bench::new(&a_thousand_targets());
    let mut begun = vec![0_u32; 10_000];
    let mut work_until = |bench: &mut Bench, from: u32, to: u32| {
        for tick in (from..to).step_by(7) {
            bench.now = Duration::from_millis(tick.into());
            while let Some(due) = bench.judge.begin(bench.now) {
                begun[tick as usize] += 1;
                bench.judge.answer(
                    due.id,
                    bench.now,
                    Answer::new(Outcome::Success, "as told", Duration::ZERO),
                );
            }
        }
        begun.clone()
    };
    let counts = work_until(&mut bench, 0, 6_000);
    let in_second = |counts: &[u32], second: usize| counts[second * 1_000..][..1_000].iter().sum::<u32>();
    for second in 1..6 {
        assert!((990..=1_010).contains(&in_second(&counts, second)), "{}", in_second(&counts, second));
    }
    // A stall of two and a half intervals: each is late once, nothing is made up for, and then all is as before.
    let counts = work_until(&mut bench, 8_500, 10_000);
    assert!((1_000..=1_020).contains(&counts[8_500]), "{}", counts[8_500]);
    let most = counts[8_501..].iter().max().unwrap();
    assert!(*most < 30, "{most} at once after a stall");
    assert!((990..=1_010).contains(&in_second(&counts, 9)), "{}", in_second(&counts, 9));
}

/// As after a pause of the machine: timeouts of a thousand checks are heard at one moment, later than the next were due.
#[test]
fn answers_that_are_heard_late_together_do_not_bring_checks_together() {
    let mut bench = Bench::new(&a_thousand_targets());
    let begun: Vec<Due> = std::iter::from_fn(|| bench.judge.begin(seconds(1.0))).collect();
    assert!(begun.len() > 990);
    for due in begun {
        bench.judge.answer(due.id, seconds(2.2), Answer::new(Outcome::Timeout, "", seconds(0.9)));
    }
    let mut most = 0;
    for millis in 2_200..5_000 {
        let now = Duration::from_millis(millis);
        let mut count = 0;
        while let Some(due) = bench.judge.begin(now) {
            count += 1;
            bench.judge.answer(due.id, now, Answer::new(Outcome::Success, "", Duration::ZERO));
        }
        most = if millis == 2_200 { 0 } else { most.max(count) };
    }
    assert!(most < 20, "{most} at once");
}

/// Some virtual servers with some real servers each, whose checks they share.
fn some(dice: &mut impl FnMut(u32) -> u32) -> String {
    let mut text = String::new();
    for service in (0..4).filter(|_| dice(4) != 0).collect::<Vec<_>>() {
        text += &format!(
            "[[virtual_server]]\nname = \"v{service}{}\"\naddress = \"10.0.0.10{service}\"\nport = 80\nquorum = {}\n\
             [virtual_server.health_check]\ntype = \"tcp\"\nport = {}\ninterval = 2\nretry_interval = 1\ntimeout = 1\n\
             fall = 2\nrise = 2\nwarmup = 0\njitter = 0\n",
            ["", "b"][dice(2) as usize],
            1 + dice(3),
            80 + dice(2)
        );
        for server in (1..5).filter(|_| dice(3) != 0).collect::<Vec<_>>() {
            let weight = dice(4);
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.0.1{server}\"\nweight = {weight}\n"
            );
        }
    }
    text
}

#[test]
fn edited_is_as_configured_anew() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut dice = |limit: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % u64::from(limit)) as u32
    };
    let first = some(&mut dice);
    let (mut edited, mut anew) = (Bench::new(&first), Bench::new(&first));
    for step in 1..300 {
        for bench in [&mut edited, &mut anew] {
            bench.run_until(f64::from(step) * 1.5);
        }
        let next = parse(&some(&mut dice));
        let before = &edited.config.virtual_servers;
        let is_left = |it: &&weir_config::model::VirtualServer| {
            !next.virtual_servers.iter().any(|next| next.identity() == it.identity())
        };
        let removed: Vec<Identity> = before.iter().filter(is_left).map(|it| it.identity()).collect();
        let changed: Vec<_> =
            next.virtual_servers.iter().filter(|it| !before.contains(it)).cloned().collect();
        edited.judge.edit(&removed, &changed, edited.now);
        anew.judge.configure(&next, anew.now);
        let dead = format!("10.0.0.1{}:{}", 1 + dice(4), 80 + dice(2));
        for bench in [&mut edited, &mut anew] {
            bench.config = next.clone();
            if bench.dead.len() > 3 {
                bench.dead.clear();
            }
            bench.kill(&dead);
            bench.events.extend(bench.judge.events());
        }
        let listed = |bench: &Bench| {
            let mut listed = bench.judge.listing(bench.now);
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            format!("{listed:#?}")
        };
        assert_eq!(listed(&edited), listed(&anew), "step {step}");
        assert_eq!(edited.judge.overlay(), anew.judge.overlay(), "step {step}");
        assert_eq!(edited.judge.target_count(), anew.judge.target_count(), "step {step}");
    }
    assert!(edited.events.len() > 100, "{}", edited.events.len());
}
