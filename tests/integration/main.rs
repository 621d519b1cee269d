//! The behaviour of everpage from the outside, one file for each, and the order of its own house.

#![expect(unreachable_pub, reason = "what the support offers is public to the tests")]

mod answers;
mod cache;
mod safety;
mod storing;
mod support;
mod tidy;
mod vary;
