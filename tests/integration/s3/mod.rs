//! Pages in S3: on the servers that `tests/s3/up` starts, and on stand-ins for those that lie.

mod bucket;
mod cluster;
mod commands;
mod export;
mod faults;
mod journal;
mod limits;
mod machine;
mod nodes;
mod outage;
mod policy;
mod probe;
mod restarts;
mod ring;
mod serving;
mod standing;
mod starts;
mod store;
mod sweep;
mod tools;
mod upkeep;
mod versions;
