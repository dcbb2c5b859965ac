//! Tests through the sockets, in one binary: one link step, one module a subject.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with the test"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod azure;
mod books_balance;
mod bytes;
mod cache;
mod charges;
mod crash;
mod dialects;
mod examples;
mod floors;
mod habits;
mod harness;
mod jobs;
mod limits;
mod losses;
mod price_command;
mod price_reload;
mod responses;
mod rule_reload;
mod rule_tests;
mod rules;
mod scenarios;
mod several;
mod storm;
mod table;
mod trust;
mod tunnels;
