//! MAY WE? Pure: no I/O, no clock, no async.
//!
//! In reading order: [`host`] and [`path`] say what a URL is, [`request_fields`] where the fields of a request are found, `names` which of them are meant, [`rules`] whether a request may be looked up and under which [`key`],
//! [`fields`] what of it reaches the origin, [`admission`] whether the response may be kept, [`cache_control`], [`tags`], [`vary`] and
//! [`freshness`] how; [`conditional`] and [`range`] shape the answer. Every "no" is a [`reason`], and
//! [`explain`] says which.

pub mod admission;
pub mod cache_control;
pub mod conditional;
pub mod explain;
pub mod fields;
pub mod freshness;
pub mod host;
pub mod key;
mod names;
pub mod path;
pub mod range;
pub mod reason;
pub mod request_fields;
pub mod rules;
pub mod tags;
pub mod vary;
