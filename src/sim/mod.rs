//! Simulated providers that keep a bill.
