//! `GET /invalidations?limit=`: what was invalidated lately, and why?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Control;
use super::answer::Failure;
use super::parameters::Parameters;
use crate::invalidation::selector::{Record, Target};
use crate::page::Sequence;

/// Paths, prefixes and tags that are shown of one record, each.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub(super) struct Recent {
    /// Newest first.
    invalidations: Vec<Invalidation>,
}

#[derive(Debug, Serialize)]
struct Invalidation {
    sequence: Sequence,
    at: String,
    /// How many paths, prefixes and tags there are, shown or not.
    named: usize,
    paths: Vec<Target>,
    prefixes: Vec<Target>,
    tags: Vec<Arc<str>>,
    all: bool,
    host: Option<Arc<str>>,
    soft: bool,
    reason: Option<Arc<str>>,
    id: Option<Arc<str>>,
}

pub(super) async fn recent(
    State(control): State<Arc<Control>>,
    mut parameters: Parameters,
) -> Result<Json<Recent>, Failure> {
    let limit = parameters.limit(100, 1000)?;
    parameters.finish("limit")?;
    let records = control.parties.invalidations.recent(limit);
    Ok(Json(Recent { invalidations: records.iter().map(|(sequence, record)| show(*sequence, record)).collect() }))
}

fn show(sequence: Sequence, record: &Record) -> Invalidation {
    Invalidation {
        sequence,
        at: record.at.to_rfc3339(),
        named: record.names(),
        paths: beginning(&record.paths),
        prefixes: beginning(&record.prefixes),
        tags: beginning(&record.tags),
        all: record.all,
        host: record.host.clone(),
        soft: record.soft,
        reason: record.reason.clone(),
        id: record.id.clone(),
    }
}

fn beginning<T: Clone>(names: &[T]) -> Vec<T> {
    names.iter().take(SHOWN_MAX).cloned().collect()
}
