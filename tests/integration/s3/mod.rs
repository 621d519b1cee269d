//! What everpage makes of S3, on real servers.

mod bucket;
mod here;
