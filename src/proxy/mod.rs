//! DATA PLANE: one request becomes one response.
//!
//! In reading order: [`handler`] is the flow chart, `visit` says who asks for what, `answer` makes a stored page an answer, `flight` collapses
//! requests for the same page, `fill` fetches and keeps it, `pass` goes past the cache, [`origin`] is the only door to the app behind.

mod answer;
pub mod body;
pub mod connection;
mod fill;
mod flight;
pub mod handler;
pub mod interim;
mod notice;
pub mod origin;
pub mod outcome;
mod pass;
mod tunnel;
pub mod visit;
pub mod wire;
