//! everpage: a full-page caching reverse proxy that keeps every page forever and never serves one that was invalidated.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod invalidation;
pub mod logging;
pub mod metrics;
pub mod page;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod store;
