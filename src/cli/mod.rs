//! The commands.

pub mod bundle;
pub mod child;
pub mod environment;
pub mod tail;
pub mod sim;
