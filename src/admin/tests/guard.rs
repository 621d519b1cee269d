use super::*;

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

const GUARDED: [&str; 6] = ["/status", "/pages", "/invalidations", "/explain?url=/", "/metrics", "/nothing"];

#[tokio::test]
async fn with_a_token_nobody_gets_in_without_it() {
    let rig = Rig::with_token("sesame");
    for target in GUARDED {
        for wrong in [
            None,
            Some("Bearer sesam"),
            Some("Bearer sesame2"),
            Some("Bearer "),
            Some("Bearer"),
            Some("Basic sesame"),
            Some("sesame"),
        ] {
            let mut asking = request(Method::GET, target, "");
            if let Some(wrong) = wrong {
                asking = with(asking, "authorization", wrong);
            }
            let answer = rig.send(asking).await;
            assert_eq!(answer.error(), (401, "unauthorized".to_owned()), "{target} {wrong:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"everpage\"");
        }
    }
    assert_eq!(rig.invalidate("[\"/\"]").await.status, 401);
    assert_eq!(rig.parties.invalidations.applied(), Sequence(0));
}

#[tokio::test]
async fn with_the_token_everything_answers_from_anywhere() {
    let rig = Rig::with_token("sesame");
    for (target, scheme) in [("/status", "Bearer"), ("/pages", "bearer")] {
        let asking = with(request(Method::GET, target, ""), "authorization", &format!("{scheme} sesame"));
        assert_eq!(rig.send(with(asking, "host", "everpage.internal")).await.status, 200);
    }
    let post = with(request(Method::POST, "/invalidate", "[\"/\"]"), "authorization", "Bearer sesame");
    assert_eq!(rig.send(with(post, "sec-fetch-site", "cross-site")).await.status, 200);
}

#[tokio::test]
async fn health_and_the_dashboard_need_no_token() {
    let rig = Rig::with_token("sesame");
    for target in ["/healthz", "/readyz", "/", "/dashboard.js", "/dashboard.css"] {
        assert_eq!(
            rig.send(with(request(Method::GET, target, ""), "host", "any.example")).await.status,
            200,
            "{target}"
        );
    }
}

#[tokio::test]
async fn without_a_token_a_foreign_name_gets_nothing() {
    let rig = Rig::new();
    for host in ["127.0.0.1:8081", "127.0.0.1", "[::1]:8081", "[::1]", "localhost", "LOCALHOST:8081", "10.0.0.7:1"] {
        assert_eq!(rig.send(with(request(Method::GET, "/status", ""), "host", host)).await.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8081", "", "evil:127.0.0.1"] {
        let answer = rig.send(with(request(Method::GET, "/status", ""), "host", host)).await;
        assert_eq!(answer.error(), (403, "foreign-host".to_owned()), "{host}");
    }
}

#[tokio::test]
async fn without_a_token_a_page_of_another_site_cannot_invalidate() {
    let rig = Rig::new();
    let post = || request(Method::POST, "/invalidate", "[\"/\"]");
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:3000"),
        ("origin", "null"),
    ] {
        assert_eq!(rig.send(with(post(), name, value)).await.error(), (403, "foreign-origin".to_owned()), "{value}");
    }
    assert_eq!(rig.parties.invalidations.applied(), Sequence(0));
    let own = with(with(post(), "origin", "http://127.0.0.1:8081"), "sec-fetch-site", "same-origin");
    assert_eq!(rig.send(own).await.status, 200);
    assert_eq!(rig.send(post()).await.status, 200, "programs say nothing");
}

#[tokio::test]
async fn every_answer_keeps_browsers_in_check_and_allows_no_other_site() {
    let rig = Rig::new();
    for target in GUARDED.into_iter().chain(["/", "/healthz", "/dashboard.js"]) {
        let answer = rig.send(with(request(Method::GET, target, ""), "origin", "https://evil.example")).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{target}");
    }
}
