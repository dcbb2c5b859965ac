//! pixtoll: a local proxy that prices, caches, routes and logs the calls an app makes to
//! image-generation APIs.
//!
//! The modules stand on floors; each imports only from floors below its own. `ARCHITECTURE.md`
//! has the plan of the house, and `pipeline` the way of a call on one screen.

// Floor 1: the language.
pub mod bill;
pub mod budget;
pub mod cores;
pub mod cork;
pub mod current;
pub mod health;
pub mod image;
pub mod money;
pub mod near;
pub mod room;
pub mod secret;
pub mod task;
pub mod wire;

// Floor 2: knowledge.
pub mod action;
pub mod dialect;
pub mod fit;
pub mod price;

// Floor 3: stations.
pub mod cache;
pub mod ledger;
pub mod plugin;
pub mod record;
pub mod upstream;

// Floor 4: the journey, and looking back on it.
pub mod audit;
pub mod listen;
pub mod pipeline;

// Floor 5: the edges.
pub mod proxy;
pub mod sim;

// Floors 6 to 8: settings, assembly, commands.
pub mod app;
pub mod cli;
pub mod config;
