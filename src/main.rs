//! The everpage binary.
fn main() {}
