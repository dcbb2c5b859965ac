//! The decision log: one line a call.
