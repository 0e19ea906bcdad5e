//! The data path without DPDK: frames from a pool on the heap, a director, and a configuration to go with them.
//!
//! The benches under `criterion/`, the test of allocations and the driver whose instructions are counted all stand on
//! this. Nothing here allocates once a [`Lab`] is made, so what is counted is the data path's.

pub mod cases;
pub mod fairness;
pub mod frames;
pub mod lab;
pub mod pool;

pub use lab::Lab;
