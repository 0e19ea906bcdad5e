//! Prints how far 2, 4 and 8 workers stray from one: the tables of `docs/schedulers.md`.
//!
//! `cargo run --release -p weir-benches --bin fairness`

use weir_benches::fairness::{Load, Order};

const SCHEDULERS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sed", "nq"];
const WORKERS: [usize; 3] = [2, 4, 8];
const FLOWS: usize = 20_000;
/// Connections that are open at a time where connections end.
const OPEN: usize = 1_000;
const LISTS: [(&str, &[u16]); 3] = [
    ("8 of weight 1", &[1; 8]),
    ("5, 3, 1", &[5, 3, 1]),
    ("100 and 9 of 1", &[100, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
];

#[expect(clippy::print_stdout, reason = "the tables are what the program is for")]
fn main() {
    println!(
        "Most picks of a real server more or less than with one worker, at any moment of {FLOWS} flows:\n"
    );
    heading();
    for scheduler in SCHEDULERS {
        for (name, weights) in LISTS {
            let load = Load { scheduler, weights, threshold: 0, flows: FLOWS, open: 0 };
            row(&format!("{scheduler} | {name}"), |workers, order| {
                load.compare(workers, order).picks.to_string()
            });
        }
    }
    println!(
        "\nThe same with connections that end, about {OPEN} open at a time: open connections of a real server.\n"
    );
    heading();
    for scheduler in &SCHEDULERS[2..] {
        for (name, weights) in LISTS {
            let load = Load { scheduler, weights, threshold: 0, flows: FLOWS, open: OPEN };
            row(&format!("{scheduler} | {name}"), |workers, order| {
                load.compare(workers, order).open.to_string()
            });
        }
    }
    println!("\nConnections beyond an upper threshold of 100, {OPEN} wanted at a time:\n");
    heading();
    for scheduler in SCHEDULERS {
        let load = Load { scheduler, weights: &[1; 8], threshold: 100, flows: FLOWS, open: OPEN };
        row(&format!("{scheduler} | 8 of weight 1"), |workers, order| {
            load.compare(workers, order).excess.to_string()
        });
    }
    println!("\nWorkers on threads of their own, 200,000 flows at full speed:\n");
    println!(
        "| scheduler | workers | share off by at most, percent | beyond the threshold |\n|---|---|---|---|"
    );
    for scheduler in SCHEDULERS {
        for workers in WORKERS {
            let load = Load { scheduler, weights: &[5, 3, 1], threshold: 0, flows: 200_000, open: 0 };
            let limited = Load { weights: &[1; 8], threshold: 20_000, ..load };
            let (share, excess) = (load.race(workers).share, limited.race(workers).excess);
            println!("| {scheduler} | {workers} | {:.3} | {excess} |", share * 100.0);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the tables are what the program is for")]
fn heading() {
    let mut line = "| scheduler | weights |".to_owned();
    for order in Order::ALL {
        for workers in WORKERS {
            line += &format!(" {workers} {} |", order.name());
        }
    }
    println!("{line}\n|{}", "---|".repeat(2 + Order::ALL.len() * WORKERS.len()));
}

#[expect(clippy::print_stdout, reason = "the tables are what the program is for")]
fn row(name: &str, figure: impl Fn(usize, Order) -> String) {
    let figures: Vec<String> =
        Order::ALL.iter().flat_map(|&order| WORKERS.map(|workers| figure(workers, order))).collect();
    println!("| {name} | {} |", figures.join(" | "));
}
