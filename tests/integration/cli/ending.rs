//! An end: the first signal lets what is under way end, the second one does not.

use std::net::TcpStream;

use super::process::{Server, get, until};
use crate::support::{Gate, origin};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains() {
    for name in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::default();
        let origin = origin().gated("/slow/", &gate).start().await;
        let mut server = Server::start(folder.path(), &origin, &[]);
        let public = server.public;
        let visitor = tokio::spawn(async move { get(public, "/slow/").await });
        gate.arrival().await;
        server.signal(name);
        server.logged("draining");
        until("no new connections", || TcpStream::connect(public).is_err());
        assert_eq!(get(server.admin, "/readyz").await.status, 503);
        assert!(server.is_running());
        gate.release();
        let answer = visitor.await.unwrap();
        assert_eq!((answer.outcome(), answer.text()), ("miss", "v1"));
        assert_eq!(server.wait().code(), Some(0));
        // The page that was under way is kept.
        let server = Server::start(folder.path(), &origin, &[]);
        assert_eq!(server.get("/slow/").await.outcome(), "hit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let origin = origin().gated("/slow/", &gate).start().await;
    let mut server = Server::start(folder.path(), &origin, &[]);
    let public = server.public;
    let visitor = tokio::spawn(async move { get(public, "/slow/").await });
    gate.arrival().await;
    server.signal("TERM");
    server.logged("draining");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
    server.logged("ended by a second signal");
    assert!(visitor.await.is_err(), "nothing was answered");
}
