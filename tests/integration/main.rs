//! The behaviour of everpage from the outside, one file for each, and the order of its own house.

mod cli;
mod tidy;
