//! Who may ring, and whose answer ends a wait? The proofs are made here as RFC 2104 and the two sentences say, not by the code under test.

use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use tokio::net::TcpListener;

use super::*;
use crate::admin::ring::Ringer;
use crate::invalidation::journal::Other;
use crate::invalidation::ring::Bell as _;

fn proof(secret: &str, said: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(said.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn call(secret: &str, journal: &str, node: &str) -> Value {
    let proof = proof(secret, &format!("ring\n{journal}\n{node}\n5\nonce"));
    json!({"journal": journal, "node": node, "sequence": 5, "nonce": "once", "proof": proof})
}

async fn rung(call: &Value) -> (u16, String) {
    let rig = Rig::new();
    rig.diary.shared.store(true, Ordering::SeqCst);
    let mut request = request(Method::POST, "/internal/ring", &call.to_string());
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    rig.send(request).await.error()
}

/// What a ring was that is let in, here: the journal of this test cannot be looked at.
const LET_IN: (u16, &str) = (503, "journal-outage");

#[tokio::test]
async fn a_ring_is_heeded_only_from_who_knows_the_secret_and_means_this_node_and_this_journal() {
    let is = |expected: (u16, &str)| (expected.0, expected.1.to_owned());
    let good = call("secret", "j", "me");
    assert_eq!(rung(&good).await, is(LET_IN));
    assert_eq!(rung(&call("another", "j", "me")).await, is((401, "unauthorized")));
    assert_eq!(rung(&call("secret", "j", "you")).await, is((409, "another-node")));
    assert_eq!(rung(&call("secret", "another", "me")).await, is((409, "another-node")));
    // What is said is what was proved.
    let changes = [("journal", json!("i")), ("node", json!("you")), ("sequence", json!(6)), ("nonce", json!("twice"))];
    for (field, value) in changes {
        let mut changed = good.clone();
        changed[field] = value;
        assert_eq!(rung(&changed).await, is((401, "unauthorized")), "another {field}");
    }
    let whole = good["proof"].as_str().unwrap();
    for wrong in ["", "00", &whole[..62], &format!("{whole}00"), "no digits"] {
        let mut changed = good.clone();
        changed["proof"] = json!(wrong);
        assert_eq!(rung(&changed).await, is((401, "unauthorized")), "{wrong:?}");
    }
    // An answer is no call.
    let mut turned = good.clone();
    turned["proof"] = json!(proof("secret", "heard\nme\n5\nonce"));
    assert_eq!(rung(&turned).await, is((401, "unauthorized")));
    assert_eq!(rung(&json!({})).await, is((400, "bad-ring")));
}

#[tokio::test]
async fn a_node_that_shares_its_journal_with_nobody_cannot_be_rung() {
    let answer = Rig::new().send(request(Method::POST, "/internal/ring", &call("secret", "j", "me").to_string())).await;
    assert_eq!(answer.error(), (404, "no-ring".to_owned()));
}

/// What a node makes of the answer of somebody who is called like this.
async fn heard(answer: impl Fn(Value) -> (u16, String) + Clone + Send + Sync + 'static) -> Option<Sequence> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let door = post(async move |body: String| {
        let (status, body) = answer(serde_json::from_str(&body).unwrap());
        (StatusCode::from_u16(status).unwrap(), body)
    });
    let server = tokio::spawn(axum::serve(listener, Router::new().route("/internal/ring", door)).into_future());
    let other = Other { node: "you".into(), ticket: "1".into(), url: None, wait: std::time::Duration::ZERO };
    let circle = Circle { node: "me".into(), secret: "secret".into() };
    let heard = Ringer::default().ring(&url, &other, &circle, &JournalId("j".into()), Sequence(5)).await;
    server.abort();
    heard.ok()
}

fn said(nonce: &str, node: &str, applied: u64, secret: &str) -> Value {
    let proof = proof(secret, &format!("heard\n{node}\n{applied}\n{nonce}"));
    json!({"node": node, "applied": applied, "proof": proof})
}

fn nonce(call: &Value) -> &str {
    call["nonce"].as_str().unwrap()
}

#[tokio::test]
async fn an_answer_counts_only_from_the_node_that_was_meant_for_this_call() {
    let fine = |said: Value| (200, said.to_string());
    assert_eq!(heard(move |call| fine(said(nonce(&call), "you", 7, "secret"))).await, Some(Sequence(7)));
    assert_eq!(heard(move |call| fine(said(nonce(&call), "you", 7, "another"))).await, None, "another secret");
    assert_eq!(heard(move |call| fine(said(nonce(&call), "they", 7, "secret"))).await, None, "somebody else");
    assert_eq!(heard(move |_| fine(said("once", "you", 7, "secret"))).await, None, "the answer to another call");
    let more = |call: Value| {
        let mut said = said(nonce(&call), "you", 7, "secret");
        said["applied"] = json!(8);
        said
    };
    assert_eq!(heard(move |call| fine(more(call))).await, None, "more than was proved");
    let renamed = |call: Value| {
        let mut said = said(nonce(&call), "you", 7, "secret");
        said["node"] = json!("they");
        said
    };
    assert_eq!(heard(move |call| fine(renamed(call))).await, None, "under another name");
    // The caller's own proof, thrown back.
    let echo = |call: Value| json!({"node": "you", "applied": call["sequence"], "proof": call["proof"]});
    assert_eq!(heard(move |call| fine(echo(call))).await, None, "an echo");
    assert_eq!(heard(|call| (503, said(nonce(&call), "you", 7, "secret").to_string())).await, None, "a refusal");
    let padded = |call: Value| format!("{}{}", said(nonce(&call), "you", 7, "secret"), " ".repeat(5000));
    assert_eq!(heard(move |call| (200, padded(call))).await, None, "an answer without end");
    assert_eq!(heard(|_| (200, "what?".to_owned())).await, None);
}

#[tokio::test]
async fn each_call_proves_itself_by_a_word_of_its_own() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let noting = Arc::clone(&calls);
        heard(move |call| {
            noting.lock().push(call);
            (200, String::new())
        })
        .await;
    }
    let calls = calls.lock();
    assert_ne!(nonce(&calls[0]), nonce(&calls[1]));
    for call in &*calls {
        assert_eq!(call["proof"], proof("secret", &format!("ring\nj\nyou\n5\n{}", nonce(call))).as_str());
        assert!(!call.to_string().contains("secret"));
    }
}
