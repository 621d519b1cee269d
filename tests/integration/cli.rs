//! What does the real binary say and do? Each command, its exit code, what it prints where, and how a server ends.

mod client;
mod configuration;
mod demo;
mod ending;
pub mod process;
mod serving;
