//! Builders for tests: an origin that does as told, the proxy before it, and visitors.
//!
//! Everything is real: sockets on loopback, hyper on both sides, the store in a temporary folder.

#![expect(dead_code, reason = "each behaviour uses its part of the support")]

mod client;
mod ear;
mod gate;
mod inside;
mod ledger;
mod liar;
mod link;
mod logs;
mod origin;
mod proxy;
mod s3;
mod wire;

pub use client::{Answer, Ask, next_piece, raw, raw_until_closed};
pub use ear::{Ear, Early, Rest};
pub use gate::Gate;
pub use inside::{EPOCH, Inside, Pieces, inside, inside_on, inside_settling, inside_with, journal, pieces};
pub use ledger::{LEASE, Ledger};
pub(crate) use liar::{Liar, Lie};
pub use link::{Fault, Link, Refusal};
pub use logs::{gather_warnings, warnings_with};
pub use origin::{Asked, Origin, Reply, raw_origin};
pub(crate) use proxy::on_each_store;
pub use proxy::{Proxy, Remains, Shelf, proxy, run_on_s3, stored_files};
pub use s3::{ACCESS_KEY, REGION, SECRET_KEY, Server, TestBucket, client as s3_client};
pub(crate) use s3::{on_each_server, on_server};
pub use wire::{Door, Wire, canned};

/// A name for the host that visitors ask for.
pub const HOST: &str = "shop.example";

/// Starts an origin.
pub fn origin() -> origin::Builder {
    origin::Builder::default()
}
