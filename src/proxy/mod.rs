//! DATA PLANE: one request becomes one response.
//!
//! In reading order: [`handler`] is the flow chart; [`visit`] says who asks for what, `look` what memory knows, `answer` makes a page an answer.
//! `lane` does the same for plain requests that find their page in memory, before hyper.
//! `flight` collapses requests for the same page, whose bytes are in its `cabin`, `errand` is what a flight is for, `fill` fetches, `intake` takes the
//! body in, `kept` makes the response a page, `large` sends one that memory does not hold. `pass` goes past the cache, with `upload` and `tunnel`.
//! [`origin`] is the only door to the app behind; [`connection`], [`wire`], [`interim`] and [`drain`] are the one to visitors.

mod absent;
mod answer;
pub mod body;
mod cabin;
pub mod connection;
pub mod drain;
mod errand;
mod fill;
mod flight;
pub mod handler;
mod intake;
pub mod interim;
mod kept;
mod lane;
mod large;
mod look;
mod notice;
pub mod origin;
pub mod outcome;
mod pass;
mod tunnel;
mod upload;
pub mod visit;
pub mod wire;
