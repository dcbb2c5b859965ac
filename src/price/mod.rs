//! What a request costs: the book, the quote, the charge.
//!
//! Pure knowledge: prices come in as text, money goes out as whole nano-dollars, and no float
//! touches either. A model's price is a sum of terms ([`term::Term`]); a new way of charging is a
//! new kind of term, and neither quote nor charge has to learn of it.
#![deny(clippy::float_arithmetic)]

mod ask;
pub mod book;
mod capability;
mod charge;
pub mod diff;
pub mod find;
mod node;
pub mod probe;
mod quote;
pub mod rank;
mod reading;
pub mod row;
pub mod spec;
pub mod spread;
pub mod term;
pub mod tokens;
mod whole;

pub use book::Book;
pub use charge::discrepancy;
pub use node::PriceProblem;
pub use row::ModelRow;

#[cfg(test)]
mod tests;
