//! What a request costs: the book, the quote, the charge.
//!
//! Pure knowledge: prices come in as text, money goes out as whole nano-dollars, and no float
//! touches either. A model's price is a sum of terms ([`term::Term`]); a new way of charging is a
//! new kind of term, and neither quote nor charge has to learn of it.
#![deny(clippy::float_arithmetic)]

mod account;
mod ask;
pub mod book;
mod capability;
mod charge;
pub mod diff;
pub mod find;
pub mod formula;
pub mod modifier;
mod node;
mod print;
pub mod probe;
pub mod provider;
mod quote;
pub mod rank;
mod reading;
pub mod resolution;
pub mod row;
mod settle;
mod shipped;
pub mod signal;
pub mod spec;
pub mod spread;
pub mod store;
pub mod swap;
mod tally;
pub mod term;
pub mod tokens;
mod whole;
mod yaml;

pub use account::{Account, Standing, Standings, Used};
pub use book::Book;
pub use node::PriceProblem;
pub use provider::ProviderRow;
pub use row::ModelRow;
pub use settle::{Discrepancy, Settled, Shortfall, discrepancy};

#[cfg(test)]
mod tests;
