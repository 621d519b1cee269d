//! S3 over TLS and through a proxy: whose certificate is believed, and who is asked.

use std::path::PathBuf;
use std::sync::Arc;

use everpage::config::S3Store;
use everpage::store::s3::bucket::{Bucket, S3ErrorKind};
use parking_lot::Mutex;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{below, put, text};
use crate::support::{Server, TestBucket};

/// TLS before a plain server, and where its certificate lies.
struct Terminated {
    port: u16,
    certificate: PathBuf,
    _folder: TempDir,
}

async fn tls_before(bucket: &TestBucket) -> Terminated {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = TempDir::new().unwrap();
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let settings = settings.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = bucket.endpoint.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                // Whoever does not believe the certificate breaks off.
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Terminated { port, certificate, _folder: folder }
}

fn at(bucket: &TestBucket, scheme: &str, server: &Terminated) -> S3Store {
    let endpoint_url = Some(format!("{scheme}://localhost:{}", server.port).parse().unwrap());
    S3Store { endpoint_url, ..below(bucket, "site") }
}

async fn assert_works(settings: S3Store) {
    let door = Bucket::open(&settings).await.unwrap();
    put(&door, "a", "over TLS").await;
    assert_eq!(text(&door, "a").await.unwrap(), "over TLS");
}

#[tokio::test]
async fn a_server_whose_certificate_is_named_is_believed() {
    let bucket = Server::Moto.fresh_bucket().await;
    let server = tls_before(&bucket).await;
    assert_works(S3Store { ca_file: Some(server.certificate.clone()), ..at(&bucket, "https", &server) }).await;
    bucket.destroy().await;
}

#[tokio::test]
async fn a_server_is_believed_unseen_if_told_so() {
    let bucket = Server::Moto.fresh_bucket().await;
    let server = tls_before(&bucket).await;
    assert_works(S3Store { verify: false, ..at(&bucket, "https", &server) }).await;
    bucket.destroy().await;
}

#[tokio::test]
async fn a_server_with_an_unknown_certificate_is_not_believed() {
    let bucket = Server::Moto.fresh_bucket().await;
    let (server, other) = (tls_before(&bucket).await, tls_before(&bucket).await);
    let settings = S3Store { ca_file: Some(other.certificate.clone()), ..at(&bucket, "https", &server) };
    let error = Bucket::open(&settings).await.unwrap_err();
    assert_eq!(error.kind, S3ErrorKind::Unreachable);
    for word in ["not trusted", "store.s3.ca_file", "store.s3.verify"] {
        assert!(error.advice.contains(word), "{error}");
    }
    bucket.destroy().await;
}

#[tokio::test]
async fn a_tls_port_does_not_speak_plain_http() {
    let bucket = Server::Moto.fresh_bucket().await;
    let server = tls_before(&bucket).await;
    let error = Bucket::open(&at(&bucket, "http", &server)).await.unwrap_err();
    assert_eq!(error.kind, S3ErrorKind::Unreachable);
    assert!(error.advice.contains("should begin with https://"), "{error}");
    bucket.destroy().await;
}

#[tokio::test]
async fn a_proxy_is_asked_for_both_schemes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            let _ = stream.read_line(&mut line).await;
            noted.lock().push(line);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    });
    for (scheme, line) in [("http", "GET http://s3.example/"), ("https", "CONNECT s3.example:443 ")] {
        let bucket = TestBucket::at(&format!("{scheme}://s3.example"));
        let settings = S3Store { proxy: Some(proxy.parse().unwrap()), ..below(&bucket, "site") };
        Bucket::open(&settings).await.unwrap_err();
        let asked = std::mem::take(&mut *asked.lock());
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.starts_with(line)), "{asked:?}");
    }
}
