//! everpage: a full-page caching reverse proxy that keeps every page forever and never serves one that was invalidated.
//!
//! # The path of one request
//!
//! 1. [`proxy::connection`] reads it from a socket that [`proxy::wire`] guards: what two parsers could read in two ways is 400.
//! 2. The fast lane (`proxy::lane`) answers a plain GET or HEAD whose page is valid in memory, before hyper, by the same functions as steps 3 to 5.
//!    Whatever else came goes by hyper, untouched.
//! 3. [`proxy::handler`], the flow chart, checks who asks for what ([`proxy::visit`]).
//! 4. [`policy::rules`] says whether it may be looked up and under which key. If not, it passes through to the origin, whole.
//! 5. [`store::memory_tier`] has the page, and [`invalidation`] finds it valid with one comparison: a **hit**. No I/O, no global lock, no copied body.
//! 6. Otherwise one flight for everyone who asks looks into the [`store`], then asks the origin ([`proxy::origin`]), having noted the newest
//!    invalidation *before* it asked.
//! 7. [`policy::admission`] says whether the response may be kept. It streams to everyone on board while it is gathered, and is then put into memory
//!    and written to the store, behind everyone's back. A body too large for memory gathers in a temporary file ([`store::spool`]), from which
//!    everyone on board reads, and is read from the store by each visitor for himself ([`page::large`]).
//!
//! With a journal that other nodes share ([`invalidation::journal::s3`]), a request is looked up only while this node knows the journal well enough.
//!
//! The other half is [`invalidation`]: a record is made durable, applied to the index, and only then answered. Its documentation holds the promise
//! and why it is kept. [`admin`] is how apps and operators reach it.
//!
//! # The layers
//!
//! Imports go down only; a test reads them and fails on an upward one.
//!
//! | layer | modules | question |
//! | --- | --- | --- |
//! | 6 | [`cli`] | what did the user type? |
//! | 5 | [`server`] | how do the parts come together? |
//! | 4 | [`proxy`], [`admin`] | what is answered? They never know each other. |
//! | 4 | [`upkeep`] | what is tidied and copied in the bucket, behind everyone's back? It knows neither of the two. |
//! | 3 | [`invalidation`] | what is no longer true? |
//! | 2 | [`store`] | where are pages kept? |
//! | 1 | [`policy`], [`page`] | may we? and: what is a page? Pure. |
//! | 0 | [`config`], [`metrics`], [`logging`], [`clock`], [`chance`], [`background`], [`trust`] | |
//!
//! # What always holds
//!
//! - Only `proxy/origin.rs` connects to the origin; only `config` reads the environment; only `config`, the stores, the journal and the command line
//!   touch files.
//! - Time comes in as an argument below `proxy`.
//! - A store that fails makes a request slower, never wrong: whatever it returns is judged by its `as_of`.
//! - Every request ends in exactly one [`proxy::outcome::Outcome`], every "no" has a name ([`policy::reason::Reason`]).
//! - Every queue, body, wait, retry and table has a bound, in the configuration or in a constant with its reason.
//! - There is no crate-wide error type: errors live beside the code that raises them.

pub mod admin;
pub mod background;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod invalidation;
pub mod logging;
pub mod metrics;
pub mod page;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod store;
pub mod trust;
pub mod upkeep;
