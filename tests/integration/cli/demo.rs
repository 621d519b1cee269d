//! The demo: what it prints, and that it leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Stdio};

use super::process::{everpage, get, signal, wait};

/// Starts it and reads what it prints, up to the empty line.
fn demo(folder: &Path, arguments: &[&str]) -> (Child, Vec<String>) {
    let mut command = everpage(folder, &[&["demo"], arguments].concat());
    let mut child = command.env("TMPDIR", folder).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines.take_while(|line| !line.is_empty()).collect())
}

fn address(line: &str, name: &str) -> SocketAddr {
    let url = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": http://")).unwrap();
    url.strip_suffix('/').unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_serves_a_shop_from_a_folder_that_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, lines) = demo(folder.path(), &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let shop = address(&lines[0], "shop through everpage");
    address(&lines[1], "dashboard");
    assert_eq!(get(shop, "/").await.outcome(), "miss");
    let answer = get(shop, "/").await;
    assert_eq!(answer.outcome(), "hit");
    assert!(answer.text().contains("Vanilla"));
    assert_eq!(get(shop, "/edit/vanilla/").await.detail(), Some("ignored"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    signal(&child, "TERM");
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_taken_port_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever has it: it is taken.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let (mut child, lines) = demo(folder.path(), &["--admin", "127.0.0.1:0", "--data", "pages"]);
    assert_ne!(address(&lines[0], "shop through everpage").port(), 8080);
    assert_eq!(lines[2], "(port 8080 is taken, so a free one is used)");
    signal(&child, "INT");
    assert_eq!(wait(&mut child).code(), Some(0));
    assert!(folder.path().join("pages").is_dir());
}
