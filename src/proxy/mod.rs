//! The edges: interception, tunnels, the gateway.
