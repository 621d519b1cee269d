//! MAY WE? Pure: no I/O, no clock, no async.

pub mod cache_control;
pub mod conditional;
pub mod host;
pub mod path;
pub mod range;
pub mod tags;
