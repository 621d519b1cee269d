//! `GET /explain?url=&method=&header=`: what would happen to a request, and what is there for it?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::answer::Failure;
use super::judgement::{self, Judgement};
use super::parameters::{self, Parameters};
use super::{Control, Parties};
use crate::invalidation::index::Subject;
use crate::page::{ObjectName, PageHead, Sequence, Variants};
use crate::policy::explain::{self as policy, Explanation, Question};
use crate::policy::key;
use crate::policy::rules::{Lookup, Target};
use crate::store::Object;

/// `header=` parameters of one question.
const FIELDS_MAX: usize = 100;

#[derive(Debug, Serialize)]
pub(super) struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    /// Request fields that are known to select the page (`Vary`).
    varies_by: Vec<String>,
    /// An invalidation that names the page is younger than `cache.settle`: what is fetched now is not kept. Of its tags only a copy tells.
    settling: bool,
    /// The copy in memory.
    memory: Option<Copied>,
    /// The copy in the store.
    store: Option<Copied>,
}

/// A page that is there.
#[derive(Debug, Serialize)]
struct Copied {
    object: ObjectName,
    status: u16,
    bytes: u64,
    stored_at: String,
    age_seconds: u64,
    as_of: Sequence,
    tags: Vec<Arc<str>>,
    judgement: Judgement,
}

pub(super) async fn explain(
    State(control): State<Arc<Control>>,
    mut parameters: Parameters,
) -> Result<Json<Explained>, Failure> {
    let url = parameters.one("url")?;
    let method = parameters.one("method")?.filter(|method| !method.is_empty());
    let fields = parameters.all("header");
    parameters.finish("url, method and header")?;
    let url = url.ok_or_else(|| parameters::wrong("`url` is missing; give a URL or a path".to_owned()))?;
    if fields.len() > FIELDS_MAX {
        return Err(parameters::wrong(format!("more than {FIELDS_MAX} times `header`")));
    }
    let question = Question::new(method.as_deref().unwrap_or("GET"), &url, &fields, &usual_host(&control.parties))?;
    Ok(Json(look(&control.parties, &question).await?))
}

/// The host of a path without one: the first that is served, else the public listener's address.
fn usual_host(parties: &Parties) -> String {
    let config = &parties.config;
    let listener = || match config.listen.port() {
        0 => "localhost".to_owned(),
        _ => config.listen.to_string(),
    };
    config.hosts.first().cloned().unwrap_or_else(listener)
}

async fn look(parties: &Parties, question: &Question) -> Result<Explained, Failure> {
    let explanation = policy::explain(&parties.config, &parties.rules, question);
    let mut explained = Explained { explanation, varies_by: Vec::new(), settling: false, memory: None, store: None };
    let request = question.request();
    if explained.explanation.decision != policy::Decision::LookUp {
        return Ok(explained);
    }
    let Lookup::Use(own) = parties.rules.lookup(&request) else { return Ok(explained) };
    // A stored GET answers HEAD, and is looked for first.
    let get = (own.method == http::Method::HEAD).then(|| parties.rules.as_get(&own, request.headers));
    let path_id = own.object_name().path;
    let subject = Subject { host: own.host, path: &own.path, path_id: &path_id, tags: &[] };
    explained.settling = parties.invalidations.moment().is_too_early(parties.invalidations.newest(&subject));
    for target in get.iter().chain([&own]) {
        look_in_memory(parties, question, target, &mut explained);
        look_in_store(parties, question, target, &mut explained).await?;
        if explained.memory.is_some() || explained.store.is_some() {
            break;
        }
    }
    Ok(explained)
}

fn look_in_memory(parties: &Parties, question: &Question, target: &Target<'_>, explained: &mut Explained) {
    let mut name = target.object_name();
    let mut page = parties.memory.get(&name.key);
    if page.is_none()
        && let Some(signpost) = parties.memory.signpost(&name.key)
    {
        name = follow(&name, &signpost, question, explained);
        page = parties.memory.get(&name.key);
    }
    if let Some(page) = &page {
        explained.settling |= parties.invalidations.is_settling(&page.head, &page.path_id);
    }
    explained.memory = page.map(|page| show(parties, name, &page.head, page.body.len() as u64));
}

async fn look_in_store(
    parties: &Parties,
    question: &Question,
    target: &Target<'_>,
    explained: &mut Explained,
) -> Result<(), Failure> {
    let mut name = target.object_name();
    let mut object = parties.store.get(&name).await?;
    if let Some(Object::Variants(signpost)) = &object {
        name = follow(&name, signpost, question, explained);
        object = parties.store.get(&name).await?;
    }
    if let Some((head, body_bytes)) = object.as_ref().and_then(Object::page) {
        explained.settling |= parties.invalidations.is_settling(head, &name.path);
        explained.store = Some(show(parties, name, head, body_bytes));
    }
    Ok(())
}

/// Where a signpost leads this request.
fn follow(name: &ObjectName, signpost: &Variants, question: &Question, explained: &mut Explained) -> ObjectName {
    explained.varies_by = signpost.fields.iter().map(ToString::to_string).collect();
    ObjectName { key: key::variant(&name.key, &signpost.fields, (&question.headers).into()), ..name.clone() }
}

fn show(parties: &Parties, object: ObjectName, head: &PageHead, bytes: u64) -> Copied {
    Copied {
        status: head.status.as_u16(),
        bytes,
        stored_at: head.stored_at.to_rfc3339(),
        age_seconds: head.age_at(parties.clock.now()),
        as_of: head.as_of,
        tags: head.tags.clone(),
        judgement: judgement::judge(parties, head, &object.path),
        object,
    }
}
