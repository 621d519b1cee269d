//! MAY WE? Pure: no I/O, no clock, no async.

pub mod host;
pub mod path;
