//! The commands.

pub mod tail;
