//! The behaviour of everpage from the outside, one file for each, and the order of its own house.

#![expect(unreachable_pub, reason = "what the support offers is public to the tests")]

mod cache;
mod simulation;
mod support;
mod tidy;
