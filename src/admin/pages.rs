//! `GET /pages?prefix=&limit=&after=`: what is stored?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::time::Instant;

use super::answer::Failure;
use super::judgement::{self, Judgement};
use super::parameters::{self, Parameters};
use super::{Control, Parties};
use crate::page::{ObjectName, Sequence};
use crate::store::{Listed, Listing};

/// How long one answer may look for pages of its prefix.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
pub(super) struct Pages {
    /// In the order of their names, which is none for people.
    pages: Vec<StoredPage>,
    /// The `after` of the next part; there may be one although this part has fewer pages than `limit`.
    next: Option<ObjectName>,
}

#[derive(Debug, Serialize)]
struct StoredPage {
    object: ObjectName,
    method: String,
    host: Arc<str>,
    path: Arc<str>,
    query: Option<Arc<str>>,
    status: u16,
    content_type: Option<String>,
    bytes: u64,
    stored_at: String,
    age_seconds: u64,
    as_of: Sequence,
    tags: Vec<Arc<str>>,
    /// Request fields that select it.
    varied_by: BTreeMap<String, String>,
    /// It would be served.
    valid: bool,
    /// The same in a word, as `invalidation` sees it.
    judgement: Judgement,
}

pub(super) async fn list(
    State(control): State<Arc<Control>>,
    mut parameters: Parameters,
) -> Result<Json<Pages>, Failure> {
    let prefix = parameters.one("prefix")?.unwrap_or_default();
    let limit = parameters.limit(100, 1000)?;
    let after = parameters.one("after")?.filter(|after| !after.is_empty());
    parameters.finish("prefix, limit and after")?;
    let parse =
        |after: String| after.parse().map_err(|error| parameters::wrong(format!("`after` is {after:?}: {error}")));
    let listing = gather(&control.parties, &prefix, after.map(parse).transpose()?, limit).await?;
    let pages = listing.pages.into_iter().map(|listed| show(&control.parties, listed)).collect();
    Ok(Json(Pages { pages, next: listing.next }))
}

/// Asks the store until there are enough, for it looks at few objects at a time.
async fn gather(
    parties: &Parties,
    prefix: &str,
    mut after: Option<ObjectName>,
    limit: usize,
) -> Result<Listing, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut pages = Vec::new();
    loop {
        let part = parties.store.list(prefix, after.as_ref(), limit - pages.len()).await?;
        pages.extend(part.pages);
        if part.next.is_none() || pages.len() >= limit || Instant::now() >= deadline {
            return Ok(Listing { pages, next: part.next });
        }
        after = part.next;
    }
}

fn show(parties: &Parties, listed: Listed) -> StoredPage {
    let Listed { name, head, body_bytes } = listed;
    let judgement = judgement::judge(parties, &head, &name.path);
    let content_type = head.headers.get(&CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind).into_owned());
    StoredPage {
        object: name,
        method: head.method.to_string(),
        status: head.status.as_u16(),
        content_type,
        bytes: body_bytes,
        stored_at: head.stored_at.to_rfc3339(),
        age_seconds: head.age_at(parties.clock.now()),
        as_of: head.as_of,
        varied_by: head.varied_by.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        valid: judgement == Judgement::Valid,
        judgement,
        host: head.host,
        path: head.path,
        query: head.query,
        tags: head.tags,
    }
}
