//! Random numbers of the kernel's.

use anyhow::{Context, Result};

/// One of them.
pub(crate) fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("the kernel gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}
