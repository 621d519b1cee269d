//! A start: what the log says, what stands in the way, and what is still there after the last one.

use std::net::TcpListener;

use super::process::{Server, run};
use crate::support::origin;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_where_it_answers_and_from_which_settings() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/", "hello").start().await;
    std::fs::write(folder.path().join("config.toml"), "hosts = [\"shop.example\"]\n").unwrap();
    let server = Server::start(folder.path(), &origin, &[]);
    assert_eq!(server.get("/").await.text(), "hello");
    server.logged("settings: config.toml; pages: in pages");
    assert!(!server.log().contains("hosts is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/", "hello").start().await;
    let server = Server::start_limited(folder.path(), &origin, "ulimit -Sn 300 && ulimit -Hn 900");
    assert_eq!(server.open_files(), ("900".into(), "900".into()));
    server.logged("allowed=900 wanted=10512");
    assert_eq!(server.get("/").await.text(), "hello");
}

#[test]
fn a_taken_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, key) in [("--listen", "(listen)"), ("--admin", "(admin.listen)")] {
        let mut arguments = vec!["serve", "--data", "pages", option, &address];
        let other = if option == "--listen" { "--admin" } else { "--listen" };
        arguments.extend([other, "127.0.0.1:0"]);
        let told = run(folder.path(), &arguments).failed(1);
        assert!(told.contains(&format!("not started: cannot listen on {address} {key}: ")), "{told}");
        assert!(told.contains("Another program listens there"), "{told}");
    }
}

#[test]
fn an_address_of_another_machine_is_a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let told = run(folder.path(), &["serve", "--data", "pages", "--listen", "192.0.2.1:80"]).failed(64);
    assert!(told.contains("192.0.2.1:80") && told.contains("no such address"), "{told}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let told = run(folder.path(), &["serve", "--data", "file/pages"]).failed(1);
    assert_eq!(told, "not started: cannot create the folder file/pages: Not a directory (os error 20)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_does_not_get_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/", "hello").start().await;
    let server = Server::start(folder.path(), &origin, &[]);
    let second = ["serve", "--data", "pages", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let told = run(folder.path(), &second).failed(1);
    assert!(told.starts_with("not started: the folder pages is in use by process "), "{told}");
    assert_eq!(server.get("/").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/", "hello").start().await;
    let server = Server::start(folder.path(), &origin, &[]);
    assert_eq!(server.get("/").await.outcome(), "miss");
    server.stop();
    let server = Server::start(folder.path(), &origin, &[]);
    let answer = server.get("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("hit", "hello"));
    assert_eq!(origin.hits("/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_page_does_not_come_back_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().counted("/").start().await;
    let mut server = Server::start(folder.path(), &origin, &[]);
    server.get("/").await;
    server.stop();
    server = Server::start(folder.path(), &origin, &[]);
    assert_eq!(server.get("/").await.outcome(), "hit");
    run(folder.path(), &["invalidate", "/", "--admin-url", &server.admin_url()]).fine();
    server.signal("KILL");
    server.wait();
    let server = Server::start(folder.path(), &origin, &[]);
    let answer = server.get("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("miss", "v2"));
}
