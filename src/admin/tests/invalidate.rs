use std::task::{Context, Poll};

use http_body::Frame;
use serde_json::json;

use super::*;
use crate::background;

#[tokio::test]
async fn an_invalidation_says_its_number_and_what_was_stored() {
    let rig = Rig::new();
    rig.store("http://a/ice-cream/", &[]).await;
    rig.store("http://a/ice-cream/?page=2", &[]).await;
    let answer = rig.invalidate(r#"{"paths": ["/ice-cream/", "/ice-cream/vanila/"], "reason": "saved"}"#).await;
    assert_eq!(answer.status, 200);
    let expected = json!({
        "sequence": 1, "journal": "j", "nodes": 1, "acknowledged": 0, "waited_out": [],
        "paths": 2, "stored": 2, "unmatched": ["/ice-cream/vanila/"],
    });
    assert_eq!(timeless(&answer), expected);
    assert_eq!(rig.parties.invalidations.applied(), Sequence(1));
    assert_eq!(rig.parties.metrics.invalidations.get(), 1);
}

/// The answer but for `took_ms`, which is a time.
fn timeless(answer: &Answered) -> Value {
    let mut json = answer.json();
    let took = json.as_object_mut().unwrap().remove("took_ms").unwrap();
    assert!(took.as_f64().is_some_and(|took| took >= 0.0), "{took}");
    json
}

#[tokio::test]
async fn a_bare_array_and_the_event_of_the_draft_are_taken_too() {
    let rig = Rig::new();
    for (body, sequence) in [
        (r#"["/ice-cream/"]"#, 1),
        (r#"{"type": "uri-prefix", "selectors": ["https://shop.example/blog/"]}"#, 2),
        (r#"{"tags": ["flavor-7"]}"#, 3),
        (r#"{"all": true}"#, 4),
    ] {
        assert_eq!(rig.invalidate(body).await.json()["sequence"], sequence, "{body}");
    }
}

#[tokio::test]
async fn nothing_to_do_is_done_with_the_current_number() {
    let rig = Rig::new();
    rig.invalidate("[\"/\"]").await;
    for body in ["[]", r#"{"paths": []}"#, r#"{"tags": [], "reason": "none"}"#] {
        let answer = rig.invalidate(body).await;
        assert_eq!((answer.status, answer.json()["sequence"].as_u64()), (200, Some(1)), "{body}");
        assert_eq!(answer.json()["unmatched"], json!([]));
        let said = answer.json();
        assert_eq!((&said["nodes"], &said["acknowledged"], &said["waited_out"]), (&json!(1), &json!(0), &json!([])));
    }
    assert_eq!(rig.parties.metrics.invalidations.get(), 1);
}

#[tokio::test]
async fn a_mistake_is_named_and_nothing_is_done() {
    let rig = Rig::new();
    for (body, error) in [
        ("{}", "no-selector"),
        ("", "not-json"),
        ("nonsense", "not-json"),
        (r#"{"paths": "/ice-cream/"}"#, "not-a-list"),
        (r#"{"paths": ["/"], "colour": 1}"#, "unknown-key"),
        (r#"["ice-cream/"]"#, "bad-path"),
        (r#"{"paths": ["/fine/", "/%zz"]}"#, "bad-path"),
        (r#"{"all": 1}"#, "not-a-boolean"),
        ("\"/\"", "not-a-request"),
    ] {
        assert_eq!(rig.invalidate(body).await.error(), (400, error.to_owned()), "{body}");
    }
    assert_eq!(rig.parties.invalidations.applied(), Sequence(0));
}

#[tokio::test]
async fn a_body_over_ten_mebibytes_is_refused_and_ten_thousand_paths_fit() {
    let rig = Rig::new();
    let announced = rig.invalidate("x".repeat(BODY_BYTES + 1)).await;
    assert_eq!(announced.error(), (413, "too-large".to_owned()));
    let unannounced = Body::new(Pieces(BODY_BYTES / 1024 + 1));
    let mut streamed = request(Method::POST, "/invalidate", "");
    *streamed.body_mut() = unannounced;
    assert_eq!(rig.send(streamed).await.error(), (413, "too-large".to_owned()));
    let paths: Vec<String> = (0..10_000).map(|n| format!("/{}/{n}/", "long-name".repeat(20))).collect();
    let answer = rig.invalidate(json!({ "paths": paths }).to_string()).await;
    assert_eq!((answer.status, answer.json()["paths"].as_u64()), (200, Some(10_000)));
}

/// So many pieces of a KiB, of unknown length together.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(&[b' '; 1024])))))
    }
}

#[tokio::test]
async fn the_same_id_twice_is_one_invalidation() {
    let rig = Rig::new();
    let body = r#"{"paths": ["/"], "id": "save-7"}"#;
    assert_eq!(rig.invalidate(body).await.json()["sequence"], 1);
    assert_eq!(rig.invalidate("[\"/other/\"]").await.json()["sequence"], 2);
    let again = rig.invalidate(body).await;
    let expected = json!({
        "sequence": 1, "journal": "j", "nodes": 1, "acknowledged": 0, "waited_out": [], "repeated": true,
        "paths": 1, "stored": 0, "unmatched": ["/"],
    });
    assert_eq!(timeless(&again), expected);
    assert_eq!(rig.parties.invalidations.applied(), Sequence(2));
}

#[tokio::test]
async fn what_is_not_durable_is_not_claimed() {
    let rig = Rig::new();
    rig.diary.fails.store(true, Ordering::SeqCst);
    let answer = rig.invalidate("[\"/\"]").await;
    assert_eq!(answer.error(), (503, "not-durable".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(rig.parties.metrics.invalidation_failures.get(), 1);
    rig.diary.fails.store(false, Ordering::SeqCst);
    assert_eq!(rig.invalidate("[\"/\"]").await.json()["sequence"], 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_and_who_is_one_too_many_is_told() {
    let rig = Arc::new(Rig::new());
    rig.diary.hangs.store(true, Ordering::SeqCst);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_MAX {
        let rig = Arc::clone(&rig);
        waiting.spawn(async move { rig.invalidate("[\"/\"]").await });
    }
    settle().await;
    let refused = rig.invalidate("[\"/\"]").await;
    assert_eq!(refused.error(), (503, "overloaded".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(rig.get("/healthz").await.status, 200, "who asks for health is not in that queue");
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.error(), (503, "timeout".to_owned()));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

#[tokio::test]
async fn a_dry_run_counts_everything_and_does_nothing() {
    let rig = Rig::new();
    for n in 0..10 {
        rig.store(&format!("http://a/blog/{n}/"), &["blog"]).await;
    }
    rig.store("http://b/blog/", &["blog", "start"]).await;
    rig.store("http://a/blogger/", &[]).await;
    for (body, stored, unmatched) in [
        (r#"{"prefixes": ["/blog"], "dry_run": true}"#, 11, json!([])),
        (r#"{"tags": ["start"], "dry_run": true}"#, 1, json!([])),
        (r#"{"tags": ["blog"], "host": "b", "dry_run": true}"#, 1, json!([])),
        (r#"{"all": true, "dry_run": true}"#, 12, json!([])),
        (r#"{"all": true, "soft": true, "dry_run": true}"#, 12, json!([])),
        (r#"{"paths": ["/blog/1/", "/blog/x/"], "tags": ["start"], "dry_run": true}"#, 2, json!(["/blog/x/"])),
        (r#"{"paths": ["/blog/1/"], "prefixes": ["/blog/1/"], "dry_run": true}"#, 1, json!([])),
        (r#"{"paths": ["http://b/blog/1/"], "dry_run": true}"#, 0, json!(["http://b/blog/1/"])),
    ] {
        let answer = rig.invalidate(body).await.json();
        assert_eq!((&answer["stored"], &answer["unmatched"]), (&json!(stored), &unmatched), "{body}");
        assert_eq!((&answer["sequence"], &answer["dry_run"]), (&json!(0), &json!(true)));
        assert!(answer.get("complete").is_none());
    }
    assert_eq!(rig.parties.invalidations.applied(), Sequence(0));
    assert_eq!(rig.shelf.usage().objects, 12);
}

#[tokio::test]
async fn a_survey_that_hits_a_bound_says_so() {
    let rig = Rig::new();
    for n in 0..10 {
        rig.store(&format!("http://a/{n}/"), &[]).await;
    }
    let record = Record { all: true, ..Record::default() };
    let usual = survey::Bounds { found: 100, looked_at: 100, time: std::time::Duration::from_secs(60) };
    for (bounds, found, complete) in [
        (usual, 10, true),
        (survey::Bounds { found: 4, ..usual }, 4, false),
        (survey::Bounds { looked_at: 6, ..usual }, 6, false),
        (survey::Bounds { time: std::time::Duration::ZERO, ..usual }, 3, false),
    ] {
        let survey = survey::find(&*rig.shelf, &record, bounds).await.unwrap();
        assert_eq!((survey.pages.len(), survey.complete), (found, complete), "{bounds:?}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_tell_for_free_is_asked_by_dry_runs_only() {
    let rig = Rig::new();
    rig.store("http://a/", &[]).await;
    rig.shelf.remote.store(true, Ordering::SeqCst);
    let dry_run = rig.invalidate(r#"{"paths": ["/", "/x"], "dry_run": true}"#).await.json();
    assert_eq!((&dry_run["stored"], &dry_run["unmatched"]), (&json!(1), &json!(["/x"])));
    let done = rig.invalidate(r#"["/", "/x"]"#).await.json();
    assert_eq!((done.get("stored"), done.get("unmatched")), (None, None));
    rig.shelf.broken.store(true, Ordering::SeqCst);
    assert_eq!(rig.invalidate(r#"["/", "/x"]"#).await.status, 200, "the journal decides, not the store");
    let dry_run = rig.invalidate(r#"{"paths": ["/"], "dry_run": true}"#).await;
    assert_eq!(dry_run.error(), (503, "store-unavailable".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_up_an_invalidation() {
    let rig = Rig::new();
    rig.shelf.hangs.store(true, Ordering::SeqCst);
    let done = rig.invalidate(r#"["/"]"#).await;
    assert_eq!((done.status, done.json().get("stored")), (200, None));
}

#[tokio::test]
async fn an_invalidation_of_many_paths_does_not_wait_for_housekeeping() {
    let rig = Rig::new();
    let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
    let mut housekeeping = tokio::task::JoinSet::new();
    for _ in 0..background::THREADS {
        let began = began.clone();
        housekeeping.spawn(background::run(move |turn| {
            began.send(()).unwrap();
            while turn.step_back() {}
        }));
    }
    for _ in 0..background::THREADS {
        beginnings.recv().await.unwrap();
    }
    let paths: Vec<String> = (0..1000).map(|number| format!("/ice-cream/{number}/")).collect();
    let answer = rig.invalidate(&json!(paths).to_string()).await;
    assert_eq!((answer.status, &answer.json()["paths"]), (200, &json!(1000)));
}

#[tokio::test]
async fn dead_pages_are_removed_afterwards_but_not_those_of_other_hosts_or_soft_ones() {
    let rig = Rig::new();
    let (gone, soft) = (rig.store("http://a/gone/", &[]).await, rig.store("http://a/soft/", &[]).await);
    let (named, other) = (rig.store("http://a/both/", &[]).await, rig.store("http://b/both/", &[]).await);
    rig.invalidate(r#"{"paths": ["/soft/"], "soft": true}"#).await;
    rig.invalidate(r#"{"paths": ["/both/"], "host": "a"}"#).await;
    rig.invalidate(r#"["/gone/"]"#).await;
    settle().await;
    assert!(!rig.is_stored(&gone).await);
    assert!(rig.is_stored(&soft).await && rig.is_stored(&named).await && rig.is_stored(&other).await);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_fetches_what_was_stored_the_most_wanted_first() {
    let rig = Rig::new();
    rig.store("http://a/blog/1/", &["blog"]).await;
    rig.store("https://a/blog/2/?page=3", &["blog"]).await;
    rig.store_variant("http://a/blog/3/", &["blog"], &[("accept-language", "de")]).await;
    let wanted = rig.store("http://b/blog/", &["blog"]).await;
    rig.store("http://a/other/", &[]).await;
    rig.hold_in_memory(&wanted).await;
    let answer = rig.invalidate(r#"{"tags": ["blog"], "refresh": true}"#).await;
    assert_eq!(answer.status, 200);
    let mut fetched = rig.refetched(4).await;
    assert_eq!(fetched[0], "GET http://b/blog/");
    fetched.sort();
    let expected = [
        "GET http://a/blog/1/",
        "GET http://a/blog/3/ accept-language=\"de\"",
        "GET http://b/blog/",
        "GET https://a/blog/2/?page=3",
    ];
    assert_eq!(fetched, expected);
}

#[tokio::test(start_paused = true)]
async fn at_most_four_pages_are_fetched_at_a_time_and_none_while_draining() {
    let rig = Rig::new();
    for n in 0..40 {
        rig.store(&format!("http://a/{n}/"), &[]).await;
    }
    rig.invalidate(r#"{"all": true, "refresh": true}"#).await;
    assert_eq!(rig.refetched(40).await.len(), 40);
    assert!((2..=4).contains(&rig.together.load(Ordering::SeqCst)));
    rig.draining.cancel();
    rig.invalidate(r#"{"all": true, "refresh": true}"#).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(rig.refetched.lock().len(), 40);
}

#[tokio::test]
async fn a_path_with_markup_is_only_data() {
    let rig = Rig::new();
    let answer = rig.invalidate(r#"["/<img src=x onerror=alert(1)>/"]"#).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json()["unmatched"], json!(["/<img src=x onerror=alert(1)>/"]));
    let mistake = rig.invalidate(r#"["<script>"]"#).await;
    assert_eq!(mistake.error(), (400, "bad-path".to_owned()));
    let missing = rig.get("/%3Cscript%3E").await;
    assert_eq!(missing.error(), (404, "not-found".to_owned()));
    assert_eq!(missing.headers["x-content-type-options"], "nosniff");
}
