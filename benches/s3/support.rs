//! What others have as well: of the tests, the S3 emulator and the line to it that breaks as told; of the other bench, what a browser says.

#![expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "it is made for tests, and benches need a part of it"
)]

#[path = "../shared/browser.rs"]
mod browser;
#[path = "../../tests/integration/support/gate.rs"]
mod gate;
#[path = "../../tests/integration/support/liar/mod.rs"]
mod liar;
#[path = "../../tests/integration/support/link/mod.rs"]
mod link;

pub(crate) use browser::FIELDS;
pub(crate) use liar::{Liar, Lie};
pub(crate) use link::{Fault, Link, Refusal};
