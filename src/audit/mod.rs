//! Looking back on the decision log: what was spent on what, and what rules that only watched would
//! have done.
//!
//! Pure: lines in, sums out. Money is exact, and what nobody knows the price of is counted beside the
//! sums and never within them.

mod past;
pub mod spend;
pub mod would;

pub use past::{Past, PastCall};
