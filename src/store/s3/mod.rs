//! Pages in S3.

pub mod bucket;
