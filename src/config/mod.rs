//! Settings that cannot be wrong.
