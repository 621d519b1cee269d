use serde_json::json;

use super::*;

#[tokio::test(start_paused = true)]
async fn ready_means_that_traffic_may_come() {
    let rig = Rig::new();
    assert_eq!((rig.get("/healthz").await.status, rig.get("/readyz").await.status), (200, 200));
    rig.shelf.broken.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(rig.get("/readyz").await.error(), (503, "store-unavailable".to_owned()));
    rig.shelf.broken.store(false, Ordering::SeqCst);
    rig.draining.cancel();
    assert_eq!(rig.get("/readyz").await.error(), (503, "draining".to_owned()));
    assert_eq!(rig.get("/healthz").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_checked_once_a_second_however_many_ask_whether_it_is_ready() {
    let rig = Rig::new();
    let checks = || rig.shelf.checks.load(Ordering::SeqCst);
    for second in 1..=3 {
        for _ in 0..100 {
            let (one, other) = tokio::join!(rig.get("/readyz"), rig.get("/readyz"));
            assert_eq!((one.status, other.status), (200, 200));
        }
        assert_eq!(checks(), second);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_ready_and_not_checked_again_and_again() {
    let rig = Rig::new();
    rig.shelf.hangs.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let (one, other) = tokio::join!(rig.get("/readyz"), rig.get("/readyz"));
        assert_eq!((one.error(), other.error().0), ((503, "store-unavailable".to_owned()), 503));
    }
    assert_eq!(rig.shelf.checks.load(Ordering::SeqCst), 1);
    let (answer, ()) = tokio::join!(rig.get("/readyz"), async { rig.draining.cancel() });
    assert_eq!(answer.error().1, "draining");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_said_in_json() {
    let rig = Rig::new();
    assert_eq!(rig.get("/invalidate/x").await.error(), (404, "not-found".to_owned()));
    for (method, target, allow) in [
        (Method::GET, "/invalidate", "POST"),
        (Method::POST, "/pages", "GET,HEAD"),
        (Method::DELETE, "/", "GET,HEAD"),
        (Method::PUT, "/healthz", "GET,HEAD"),
    ] {
        let answer = rig.send(request(method, target, "")).await;
        assert_eq!(answer.error(), (405, "method-not-allowed".to_owned()), "{target}");
        assert_eq!(answer.headers["allow"], allow);
    }
}

#[tokio::test]
async fn the_status_has_the_numbers_and_no_secret() {
    let rig = Rig::with_token("sesame-open-yourself");
    rig.store("http://a/", &[]).await;
    for (outcome, count) in [("hit", 6), ("miss", 1), ("refused", 1), ("bypass", 9)] {
        (0..count).for_each(|_| _ = rig.parties.metrics.requests(outcome).inc());
    }
    rig.parties.metrics.refused("set-cookie").inc();
    let mut asking = request(Method::GET, "/status", "");
    asking.headers_mut().insert("authorization", "Bearer sesame-open-yourself".parse().unwrap());
    let answer = rig.send(asking).await;
    assert!(!answer.text.contains("sesame"), "{}", answer.text);
    let status = answer.json();
    assert_eq!(status["hit_ratio"], 0.75);
    assert_eq!(status["requests"], json!({"hit": 6, "miss": 1, "refused": 1, "bypass": 9}));
    assert_eq!(status["refused"], json!({"set-cookie": 1}));
    assert_eq!(status["journal"], json!({"id": "j", "sequence": 0, "names": 0, "nodes": 1}));
    assert_eq!((&status["store"]["kind"], &status["store"]["objects"]), (&json!("memory"), &json!(1)));
    assert_eq!((&status["now"]["flights"], &status["draining"]), (&json!(3), &json!(false)));
    assert_eq!(status["config"]["cache"]["ignore"], json!(["^/admin/"]));
}

#[tokio::test]
async fn metrics_have_the_gauges_of_all_parties() {
    let rig = Rig::new();
    rig.store("http://a/", &[]).await;
    rig.invalidate(r#"{"paths": ["/x"], "prefixes": ["/y"]}"#).await;
    let answer = rig.get("/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "everpage_flights 3",
        "everpage_store_objects 1",
        "everpage_journal_sequence 1",
        "everpage_journal_names 2",
        "everpage_draining 0",
        "everpage_invalidations_total 1",
    ] {
        assert!(answer.text.lines().any(|other| other == line), "{line} in\n{}", answer.text);
    }
}

#[tokio::test]
async fn pages_come_in_parts_each_once() {
    let rig = Rig::new();
    let mut expected = Vec::new();
    for n in 0..10 {
        expected.push(rig.store(&format!("http://a/blog/{n}/"), &[]).await.to_string());
    }
    rig.store("http://a/shop/", &[]).await;
    expected.sort();
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let part = rig.get(&format!("/pages?prefix=/blog/&limit=4&after={after}")).await.json();
        let pages = part["pages"].as_array().unwrap();
        assert!(pages.len() <= 4);
        names.extend(pages.iter().map(|page| page["object"].as_str().unwrap().to_owned()));
        match part["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_listed_page_says_what_it_is_and_whether_it_would_be_served() {
    let rig = Rig::new();
    rig.store_variant("http://a/blog/%3Cb%3E/?page=2", &["blog", "x"], &[("accept-language", "de")]).await;
    let first = |answer: Answered| answer.json()["pages"][0].clone();
    let page = first(rig.get("/pages").await);
    for (key, value) in [
        ("method", json!("GET")),
        ("host", json!("a")),
        ("path", json!("/blog/%3Cb%3E/")),
        ("query", json!("page=2")),
        ("status", json!(200)),
        ("content_type", json!("text/html")),
        ("bytes", json!(5)),
        ("as_of", json!(0)),
        ("tags", json!(["blog", "x"])),
        ("varied_by", json!({"accept-language": "de"})),
        ("valid", json!(true)),
        ("judgement", json!("valid")),
    ] {
        assert_eq!(page[key], value, "{key}");
    }
    assert!(page["stored_at"].as_str().unwrap().ends_with('Z'));
    rig.invalidate(r#"{"tags": ["x"], "soft": true}"#).await;
    assert_eq!(first(rig.get("/pages").await)["judgement"], "soft");
    rig.invalidate(r#"{"prefixes": ["/blog/"], "host": "b"}"#).await;
    assert_eq!(first(rig.get("/pages").await)["judgement"], "soft");
    rig.invalidate(r#"{"prefixes": ["/blog/"]}"#).await;
    let page = first(rig.get("/pages").await);
    assert_eq!((&page["judgement"], &page["valid"]), (&json!("invalid"), &json!(false)));
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let rig = Rig::new();
    for target in [
        "/pages?limit=0",
        "/pages?limit=1001",
        "/pages?limit=many",
        "/pages?after=x",
        "/pages?prefix=/&prefix=/",
        "/pages?colour=red",
        "/invalidations?limit=-1",
        "/invalidations?after=1",
        "/explain",
        "/explain?url=/&uri=/",
    ] {
        assert_eq!(rig.get(target).await.error(), (400, "bad-parameter".to_owned()), "{target}");
    }
    for (target, error) in [
        ("/explain?url=blog", "bad-url"),
        ("/explain?url=/&method=G%20T", "bad-method"),
        ("/explain?url=/&header=x", "bad-header"),
    ] {
        assert_eq!(rig.get(target).await.error(), (400, error.to_owned()), "{target}");
    }
    rig.shelf.broken.store(true, Ordering::SeqCst);
    for target in ["/pages", "/explain?url=/"] {
        assert_eq!(rig.get(target).await.error(), (503, "store-unavailable".to_owned()), "{target}");
    }
}

#[tokio::test]
async fn the_latest_invalidations_come_first_and_long_ones_are_cut() {
    let rig = Rig::new();
    rig.invalidate(r#"{"paths": ["/a", "http://h/b"], "reason": "<b>saved</b>", "id": "7"}"#).await;
    let many: Vec<String> = (0..500).map(|n| format!("/{n}")).collect();
    rig.invalidate(json!({"paths": many, "tags": ["t"], "soft": true}).to_string()).await;
    let answer = rig.get("/invalidations").await.json();
    let [newest, oldest] = answer["invalidations"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&newest["sequence"], &newest["named"], &newest["soft"]), (&json!(2), &json!(501), &json!(true)));
    assert_eq!(newest["paths"].as_array().unwrap().len(), 20);
    assert_eq!(oldest["paths"], json!([{"path": "/a"}, {"host": "h", "path": "/b"}]));
    assert_eq!((&oldest["reason"], &oldest["id"]), (&json!("<b>saved</b>"), &json!("7")));
    assert!(oldest["at"].as_str().unwrap().ends_with('Z'));
    let one = rig.get("/invalidations?limit=1").await.json();
    assert_eq!(one["invalidations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn explain_says_what_happens_and_what_is_there() {
    let rig = Rig::new();
    let name = rig.store("http://a/blog/?page=2", &["x"]).await;
    rig.hold_in_memory(&name).await;
    let explained = rig.get("/explain?url=http://a/%2562log/../blog/%3Futm_source%3Dx%26page%3D2").await.json();
    assert_eq!((&explained["decision"], &explained["reason"]), (&json!("look-up"), &Value::Null));
    assert_eq!((&explained["path"], &explained["query"]), (&json!("/blog/"), &json!("page=2")));
    assert_eq!(explained["object"], name.to_string());
    for tier in ["memory", "store"] {
        assert_eq!((&explained[tier]["judgement"], &explained[tier]["as_of"]), (&json!("valid"), &json!(0)), "{tier}");
    }
    let head = rig.get("/explain?url=http://a/blog/%3Fpage%3D2&method=HEAD").await.json();
    assert_eq!(head["memory"]["object"], name.to_string(), "a stored GET answers HEAD");
    rig.invalidate(r#"{"tags": ["x"]}"#).await;
    let dead = rig.get("/explain?url=http://a/blog/%3Fpage%3D2").await.json();
    assert_eq!((&dead["memory"]["judgement"], &dead["store"]["judgement"]), (&json!("invalid"), &json!("invalid")));
    let absent = rig.get("/explain?url=/blog/&header=Host:%20other").await.json();
    assert_eq!((&absent["host"], &absent["memory"], &absent["store"]), (&json!("other"), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn explain_finds_the_variant_and_names_the_rule() {
    let rig = Rig::new();
    let german = rig.store_variant("http://a/", &[], &[("accept-language", "de")]).await;
    let explained = rig.get("/explain?url=http://a/&header=Accept-Language:%20de").await.json();
    assert_eq!(explained["varies_by"], json!(["accept-language"]));
    assert_eq!(explained["store"]["object"], german.to_string());
    let french = rig.get("/explain?url=http://a/&header=Accept-Language:%20fr").await.json();
    assert_eq!((&french["varies_by"], &french["store"]), (&json!(["accept-language"]), &Value::Null));
    let ignored = rig.get("/explain?url=//admin/x").await.json();
    assert_eq!((&ignored["decision"], &ignored["reason"]), (&json!("bypass"), &json!("ignored")));
    assert_eq!(ignored["ignored_by"], json!(["^/admin/"]));
}

#[tokio::test]
async fn the_dashboard_takes_nothing_from_elsewhere_and_writes_no_markup() {
    let rig = Rig::new();
    let page = rig.get("/").await;
    assert!(page.text.contains("<title>everpage</title>"));
    for forbidden in ["style=", "onclick=", "<script>", "<style", "https://"] {
        assert!(!page.text.contains(forbidden), "{forbidden}");
    }
    let script = rig.get("/dashboard.js").await;
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"] {
        assert!(!script.text.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn a_bug_in_one_request_is_an_answer() {
    let mut parties = Rig::new().parties;
    parties.readings = Arc::new(|| panic!("a bug"));
    let rig = Rig { router: router(parties), ..Rig::new() };
    assert_eq!(rig.get("/status").await.error(), (500, "bug".to_owned()));
    assert_eq!(rig.get("/pages").await.status, 200);
}

/// Work in a bucket that is done as soon as it is begun.
fn job(done: &Arc<Mutex<Vec<bool>>>) -> Job {
    let (starting, done) = (Arc::clone(done), Arc::clone(done));
    Job {
        start: Arc::new(move |is_dry| {
            starting.lock().push(is_dry);
            starting.lock().len() < 3
        }),
        state: Arc::new(move || serde_json::json!({"running": null, "last": done.lock().len()})),
    }
}

async fn post(rig: &Rig, target: &str, body: &str) -> Answered {
    rig.send(request(Method::POST, target, body)).await
}

#[tokio::test]
async fn a_sweep_is_started_and_watched() {
    let mut rig = Rig::new();
    let done = Arc::default();
    rig.parties.upkeep = Upkeep { sweep: Some(job(&done)), export: None };
    rig.router = router(rig.parties.clone());
    let started = post(&rig, "/sweep", "").await;
    assert_eq!((started.status, &started.json()["started"]), (202, &true.into()));
    assert_eq!(post(&rig, "/sweep", r#"{"dry_run": true}"#).await.json()["started"], true);
    assert_eq!(post(&rig, "/sweep?dry_run=true", "").await.json()["started"], false);
    assert_eq!(*done.lock(), [false, true, true]);
    assert_eq!(rig.get("/sweep").await.json()["last"], 3);
    for (target, body) in
        [("/sweep?dry_run=perhaps", ""), ("/sweep?dry=1", ""), ("/sweep", "[]"), ("/sweep", r#"{"dry": 1}"#)]
    {
        assert_eq!(post(&rig, target, body).await.status, 400, "{target} {body}");
    }
    assert_eq!(done.lock().len(), 3, "a mistake starts nothing");
}

#[tokio::test]
async fn without_a_bucket_there_is_nothing_to_sweep_or_export() {
    let rig = Rig::new();
    for answer in [rig.get("/sweep").await, post(&rig, "/sweep", "").await, post(&rig, "/export", "").await] {
        assert_eq!(answer.error(), (409, "not-s3".to_owned()));
        assert!(answer.json()["detail"].as_str().unwrap().contains("memory store"));
    }
}
