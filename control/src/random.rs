//! Random numbers of the kernel's.

use std::hash::Hasher;

use anyhow::{Context, Result};
use siphasher::sip::SipHasher24;

/// One of them.
pub(crate) fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("the kernel gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Numbers that nobody can tell who does not know the seed; with it, the same each time.
pub(crate) fn follow([first, second]: [u64; 2]) -> impl FnMut() -> u64 {
    let mut number = 0_u64;
    move || {
        let mut hasher = SipHasher24::new_with_keys(first, second);
        number += 1;
        hasher.write_u64(number);
        hasher.finish()
    }
}
