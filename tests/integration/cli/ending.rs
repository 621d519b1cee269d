//! An end: the first signal lets what is under way end, the second one does not.

use std::net::TcpStream;

use super::process::{Origin, Server, begin, finish, get, until};

#[test]
fn a_signal_drains() {
    for name in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::start(&[("/slow", "at last")]);
        let mut server = Server::start(folder.path(), origin.address, &[]);
        let visitor = begin(server.public, "/slow");
        until("the origin is asked", || origin.asked("/slow") == 1);
        server.signal(name);
        server.logged("draining");
        until("no new connections", || TcpStream::connect(server.public).is_err());
        assert_eq!(get(server.admin, "/readyz").status, 503);
        assert!(server.is_running());
        origin.answer_slow();
        let answer = finish(visitor);
        assert_eq!((answer.status, answer.body.as_str()), (200, "at last"));
        assert_eq!(server.wait().code(), Some(0));
        // The page that was under way is kept.
        let server = Server::start(folder.path(), origin.address, &[]);
        assert!(server.get("/slow").is_hit());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(&[("/slow", "never")]);
    let mut server = Server::start(folder.path(), origin.address, &[]);
    let _visitor = begin(server.public, "/slow");
    until("the origin is asked", || origin.asked("/slow") == 1);
    server.signal("TERM");
    server.logged("draining");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
    server.logged("ended by a second signal");
}
