//! The edges: interception, tunnels, the gateway.

pub mod authority;
