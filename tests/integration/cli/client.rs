//! The client commands: before a server, before none, and with a token.

use std::fs;
use std::net::TcpListener;

use serde_json::Value as Json;

use super::process::{Server, everpage, run};
use crate::support::origin;

#[test]
fn nobody_there_is_told_with_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(folder.path().join("config.toml"), format!("[admin]\nlisten = \"{free}\"\n")).unwrap();
    for command in [&["invalidate", "/"][..], &["status"], &["pages"]] {
        let told = run(folder.path(), command).failed(1);
        assert!(told.starts_with(&format!("no everpage answers at http://{free}: Connection refused")), "{told}");
        assert!(told.contains("is it running?"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_admin_api_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/status", "<h1>hello</h1>").start().await;
    let told = run(folder.path(), &["status", "--admin-url", &origin.url()]).failed(1);
    assert!(told.contains("is not everpage's admin API: 200 OK <h1>hello</h1>"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_warmed_listed_and_invalidated() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().page("/", "home").page("/blog/a/", "a").page("/blog/b/", "b").start().await;
    let server = Server::start(folder.path(), &origin, &[]);
    let public = format!("http://{}", server.public);
    let admin = server.admin_url();
    let warm = ["warm", "--public-url", &public, "--host", "shop.example"];
    let told = run(folder.path(), &[&warm[..], &["/", "/blog/a/", "/blog/b/"]].concat()).fine();
    assert_eq!(told, "3 pages: 3 fetched, 0 kept already, 0 not kept, 0 failed\n");
    let told = run(folder.path(), &[&warm[..], &["/", "/admin/"]].concat());
    assert_eq!(told.code, Some(1));
    assert_eq!(told.out, "2 pages: 0 fetched, 1 kept already, 0 not kept, 1 failed\n");
    assert_eq!(told.err, "1 page failed:\n  http://shop.example/admin/  404 Not Found\n");

    let listed = run(folder.path(), &["pages", "--prefix", "/blog/", "--admin-url", &admin]).fine();
    assert!(listed.contains("/blog/a/") && listed.contains("/blog/b/"), "{listed}");
    let listed = run(folder.path(), &["pages", "--limit", "1", "--json", "--admin-url", &admin]).fine();
    let json: Json = serde_json::from_str(&listed).unwrap();
    assert_eq!(json["pages"].as_array().map(Vec::len), Some(1), "{listed}");

    let dry = run(folder.path(), &["invalidate", "--prefix", "/blog", "--dry-run", "--admin-url", &admin]).fine();
    assert_eq!(dry, "nothing done: 2 stored pages would go\n");
    let told = run(folder.path(), &["invalidate", "/", "/hom/", "--admin-url", &admin]).fine();
    assert!(told.starts_with("invalidated on 1 node") && told.contains("/hom/"), "{told}");
    assert_eq!(server.get("/").await.outcome(), "miss");
    let again = ["invalidate", "/", "--id", "once", "--json", "--admin-url", &admin];
    let (one, other) = (run(folder.path(), &again).fine(), run(folder.path(), &again).fine());
    let sequence = |told: &str| serde_json::from_str::<Json>(told).unwrap()["sequence"].clone();
    assert_eq!(sequence(&one), sequence(&other));
    let told = run(folder.path(), &["invalidate", "no-slash", "--admin-url", &admin]).failed(64);
    assert!(told.contains("begins with `/`"), "{told}");

    let status = run(folder.path(), &["status", "--admin-url", &admin]).fine();
    assert!(status.contains("filesystem"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_settles_is_warmed_until_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), "[cache]\nsettle = \"2s\"\n").unwrap();
    let origin = origin().page("/", "home").start().await;
    let server = Server::start(folder.path(), &origin, &[]);
    run(folder.path(), &["invalidate", "/", "--admin-url", &server.admin_url()]).fine();
    let public = format!("http://{}", server.public);
    let told = run(folder.path(), &["warm", "--public-url", &public, "--host", "shop.example", "/"]).fine();
    assert_eq!(told, "1 page: 1 fetched, 0 kept already, 0 not kept, 0 failed\n");
    assert!(origin.hits("/") > 1, "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sitemap_and_the_sitemaps_of_an_index_name_pages() {
    let folder = tempfile::tempdir().unwrap();
    let index = "<sitemapindex><sitemap><loc>http://shop.example/map.xml</loc></sitemap></sitemapindex>";
    let map = "<urlset><url><loc>http://shop.example/a</loc></url><url><loc>http://shop.example/b?x=1&amp;y=2</loc></url></urlset>";
    let origin = origin().page("/index.xml", index).page("/map.xml", map).page("/a", "a").page("/b", "b").start().await;
    let server = Server::start(folder.path(), &origin, &[]);
    let public = format!("http://{}", server.public);
    let warm = ["warm", "--sitemap", "http://shop.example/index.xml", "--json", "--public-url", &public];
    let json: Json = serde_json::from_str(&run(folder.path(), &warm).fine()).unwrap();
    assert_eq!((&json["fetched"], &json["failed"]), (&2.into(), &Json::Array(Vec::new())));
    assert!(origin.asked().iter().any(|asked| asked.target == "/b?x=1&y=2"));
    let warm = ["warm", "--sitemap", "http://shop.example/a", "--public-url", &public];
    let told = run(folder.path(), &warm).failed(1);
    assert!(told.starts_with("http://shop.example/a: it is no sitemap"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_comes_from_a_file_the_environment_or_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let origin = origin().start().await;
    fs::write(folder.path().join("config.toml"), "[admin]\ntoken = \"a-token-of-some-length-0123456789\"\n").unwrap();
    fs::write(folder.path().join("token"), "a-token-of-some-length-0123456789\n").unwrap();
    let server = Server::start(folder.path(), &origin, &[]);
    let admin = server.admin_url();
    let status = ["status", "--admin-url", &admin];
    let told = run(folder.path(), &status).failed(1);
    assert!(told.contains("asks for a token"), "{told}");
    run(folder.path(), &[&status[..], &["--token-file", "token"]].concat()).fine();
    let with_variable = |token: &str| everpage(folder.path(), &status).env("EVERPAGE_TOKEN", token).output().unwrap();
    assert_eq!(with_variable("a-token-of-some-length-0123456789").status.code(), Some(0));
    let wrong = with_variable("another");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("refuses this token"));
    // Without --admin-url, address and token are the configuration's.
    let mut own = everpage(folder.path(), &["status"]);
    let own = own.env("EVERPAGE_ADMIN__LISTEN", server.admin.to_string()).output().unwrap();
    assert_eq!(own.status.code(), Some(0), "{}", String::from_utf8_lossy(&own.stderr));
}
