//! WHAT IS NO LONGER TRUE?

pub mod body;
pub mod journal;
pub mod selector;
