//! What others have as well: of the tests, the S3 servers and the line to them that breaks as told; of the other bench, what a browser says.

#![expect(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    clippy::unwrap_used,
    reason = "it is made for tests, and benches need a part of it"
)]

#[path = "../shared/browser.rs"]
mod browser;
#[path = "../../tests/integration/support/gate.rs"]
mod gate;
#[path = "../../tests/integration/support/link/mod.rs"]
mod link;
#[path = "../../tests/integration/support/s3.rs"]
mod s3;

pub(crate) use browser::FIELDS;
pub(crate) use link::{Fault, Link};
pub(crate) use s3::{ACCESS_KEY, SECRET_KEY, Server, TestBucket};
