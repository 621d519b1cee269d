//! An https origin is believed if its certificate is, and not otherwise.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everpage::config::Config;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Proxy, proxy};

/// An https app, and where its certificate lies.
struct App {
    url: String,
    certificate: PathBuf,
    _folder: TempDir,
}

async fn app(name: &str) -> App {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let folder = TempDir::new().unwrap();
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let settings = settings.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not believe the certificate breaks off.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0, "a whole head comes");
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    App { url, certificate, _folder: folder }
}

async fn before(app: &App, change: impl FnOnce(&mut Config)) -> Proxy {
    proxy().origin_at(&app.url).set(change).start().await
}

#[tokio::test]
async fn an_origin_whose_certificate_is_trusted_is_asked() {
    let app = app("localhost").await;
    let proxy = before(&app, |config| config.origin.ca_file = Some(app.certificate.clone())).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.outcome(), answer.text()), ("miss", "secret"));
    assert_eq!(proxy.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn an_origin_with_another_certificate_is_not_believed() {
    let (app, other) = (app("localhost").await, app("localhost").await);
    let proxy = before(&app, |config| config.origin.ca_file = Some(other.certificate.clone())).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-unreachable")));
}

#[tokio::test]
async fn an_origin_whose_certificate_names_another_host_is_not_believed() {
    let app = app("elsewhere.example").await;
    let proxy = before(&app, |config| config.origin.ca_file = Some(app.certificate.clone())).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-unreachable")));
}

#[tokio::test]
async fn an_origin_is_believed_unseen_if_told_so() {
    let app = app("elsewhere.example").await;
    let proxy = before(&app, |config| config.origin.verify = false).await;
    assert_eq!(proxy.get("/").await.text(), "secret");
}

#[tokio::test]
async fn a_plain_origin_behind_an_https_url_is_unreachable() {
    let plain = crate::support::canned("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain").await;
    let url = plain.replace("http:", "https:");
    let hasty = |config: &mut Config| {
        config.origin.verify = false;
        config.origin.connect_timeout = Duration::from_millis(200);
    };
    let proxy = proxy().origin_at(&url).set(hasty).start().await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.detail()), (502, Some("origin-unreachable")));
}
