//! The behaviour of everpage from the outside, one file for each, and the order of its own house.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "what the support offers is public to the tests")]

mod answers;
mod cache;
mod cli;
mod collapsing;
mod drain;
mod durability;
mod herds;
mod invalidation;
mod lane;
mod large;
mod leases;
mod protocol;
mod races;
mod remote;
mod s3;
mod safety;
mod settle;
mod simulation;
mod smuggling;
mod storing;
mod streaming;
mod support;
mod tidy;
mod timeouts;
mod tls;
mod tunnel;
mod vary;
