//! The commands.

pub mod sim;
