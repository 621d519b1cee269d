//! Pages in S3.

mod breaker;
pub mod bucket;
mod call;
mod client;
mod failure;
mod requests;

pub use breaker::Health;
pub use requests::{Class, RequestCount};
