//! The accept loop with its limits.
