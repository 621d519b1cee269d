//! MAY WE? Pure: no I/O, no clock, no async.

pub mod conditional;
pub mod host;
pub mod path;
pub mod range;
