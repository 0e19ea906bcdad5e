//! Connection tables that outlive the process.
//!
//! Two memory files are kept by somebody else. One has the tables of all workers and the templates as these use them. The other is the book: a
//! [`Header`] that says what is where and whose it is, the worker's [`Clock`], and what the numbers in records mean, by content ([`Book`]).
//!
//! # Why the next process may trust it
//! *A record is a connection's* at every moment (`conn/table/adopt.rs`), and a template its client's (`conn/template/adopt.rs`).
//!
//! *A number means what the book says.* It is written there before the snapshot with it is put in force, so no record names it
//! earlier; and it is not given to another real server while a record may name it (invariant 9). Each entry has its own checksum, which is
//! taken away first and written last.
//!
//! *Seconds go on.* Records have those of the worker's clock, which counts the processor's cycles from [`Clock::epoch`] on. The next
//! process goes on counting from there. After a boot nothing is taken over.
//!
//! *Nobody else writes.* Who has the book locked is the only one.

mod adopt;
mod book;
mod header;
mod succession;
#[cfg(test)]
mod tests;

pub use adopt::{Adopted, Asked, Census, Judge, Left, Opened, Pieces, lay_out};
pub use book::{BOOK_LINES, Book, Numbers};
pub use header::{Clock, Distribution, Header, Machine, Refusal};
pub use succession::Succession;

use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::Line;

/// A checksum of words: not against somebody who wants to deceive, but against everything else.
fn checksum(words: &[u64]) -> u64 {
    let fold = |sum: u64, word: &u64| {
        let product = u128::from(sum ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        (product as u64 ^ (product >> 64) as u64).wrapping_add(0x2545_f491_4f6c_dd1d)
    };
    words.iter().fold(0x243f_6a88_85a3_08d3, fold)
}

fn load(line: &Line) -> [u64; 8] {
    std::array::from_fn(|word| line.0[word].load(Relaxed))
}

/// What [`store_sealed`] wrote, if all of it is there.
fn load_sealed(line: &Line) -> Option<[u64; 7]> {
    let [words @ .., sum] = load(line);
    (checksum(&words) == sum).then_some(words)
}

/// Writes seven words and their checksum, which is wrong meanwhile.
fn store_sealed(line: &Line, words: [u64; 7]) {
    let sum = checksum(&words);
    line.0[7].store(!sum, Relaxed);
    for (place, word) in line.0.iter().zip(words) {
        place.store(word, Release);
    }
    line.0[7].store(sum, Release);
}
