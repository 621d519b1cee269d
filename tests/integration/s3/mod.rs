//! Pages in S3: on the servers that `tests/s3/up` starts, and on stand-ins for those that lie.

mod bucket;
mod commands;
mod export;
mod faults;
mod journal;
mod policy;
mod probe;
mod ring;
mod store;
mod sweep;
mod tools;
mod upkeep;
