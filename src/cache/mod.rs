//! The same picture is bought once.
//!
//! [`key`] says when two requests are the same, [`store`] remembers what was bought, [`flight`]
//! lets equal calls share one purchase, [`shelf`] keeps what was bought ahead, [`lru`] bounds what is
//! remembered. Knows nothing of providers, prices or Lua.

pub mod flight;
pub mod key;
pub mod lru;
pub mod shelf;
pub mod store;

pub use flight::{Flight, Flights, Joined, Live, Pilot, Shape};
pub use key::{Around, Key, Partition};
pub use lru::Lru;
pub use shelf::Shelf;
pub use store::{Entry, KeptHead, Original, Store};
