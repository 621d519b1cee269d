//! WHAT IS NO LONGER TRUE?

pub mod journal;
pub mod selector;
