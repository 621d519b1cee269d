//! Lines for people and machines.
