//! Tests through the sockets, in one binary: one link step, one module a subject.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with the test"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod accounts;
mod alerts;
mod azure;
mod batches;
mod books_balance;
mod broken;
mod broken_rules;
mod budgets;
mod bytes;
mod cache;
mod charges;
mod config_reload;
mod crash;
mod dialects;
mod examples;
mod faults;
mod floors;
mod habits;
mod harness;
mod held_answers;
mod jobs;
mod limits;
mod losses;
mod memory;
mod observed;
mod own_quotes;
mod price_command;
mod price_reload;
mod reports;
mod responses;
mod retries;
mod rule_reload;
mod rule_tests;
mod rules;
mod scenarios;
mod several;
mod storm;
mod stub;
mod table;
mod trust;
mod tunnels;
