//! The way out: connections, limits, one attempt.
