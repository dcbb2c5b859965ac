//! The whole way of a call on one screen.
