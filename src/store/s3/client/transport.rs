//! HOW DO BYTES GET THERE? The SDK's HTTP client with our pool, TLS settings and proxy. The keys' sources are asked through it too.

use std::fmt;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::bucket::{S3Error, S3ErrorKind};
use crate::{config, trust as trusting};

/// Amazon closes idle connections after about this long; a request on a closed one costs a second try.
const IDLE: Duration = Duration::from_secs(20);

/// The one client of a bucket.
///
/// # Errors
/// `store.s3.ca_file` or `store.s3.proxy` cannot be used.
pub(super) fn client(settings: &config::S3Store) -> Result<SharedHttpClient, S3Error> {
    let connector = if settings.verify { verifying(settings)? } else { trusting_anyone(settings)? };
    // One connector whatever the SDK asks for: its pool is shared, and its limits are ours.
    Ok(http_client_fn(move |_, _| connector.clone()))
}

fn verifying(settings: &config::S3Store) -> Result<SharedHttpConnector, S3Error> {
    let context = TlsContext::builder()
        .with_trust_store(trust(settings)?)
        .build()
        .map_err(|error| wrong(format!("its TLS settings cannot be used: {error}")))?;
    let limits = HttpConnectorSettings::builder().connect_timeout(settings.connect_timeout).build();
    let mut builder = Connector::builder()
        .connector_settings(limits)
        .proxy_config(proxy(settings)?)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context);
    builder.set_pool_max_idle_per_host(Some(settings.max_requests));
    builder.set_pool_idle_timeout(Some(Some(IDLE)));
    Ok(SharedHttpConnector::new(builder.build()))
}

/// What the proxy of the settings, or of the environment, is asked for; never the metadata service, which is this machine's own.
fn proxy(settings: &config::S3Store) -> Result<ProxyConfig, S3Error> {
    let Some(url) = &settings.proxy else { return Ok(ProxyConfig::from_env()) };
    // The URL may hold a password: it is not repeated.
    let proxy = ProxyConfig::all(url.to_string())
        .map_err(|_| wrong("store.s3.proxy is no URL of a proxy: http://host:port would be right".to_owned()))?;
    Ok(proxy.no_proxy("169.254.0.0/16"))
}

fn trust(settings: &config::S3Store) -> Result<TrustStore, S3Error> {
    if let Some(path) = &settings.ca_file {
        let wrong = |why: String| wrong(format!("store.s3.ca_file = {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("no certificate in it".to_owned()));
        }
        return Ok(TrustStore::empty().with_pem_certificate(pem));
    }
    let has_roots = !rustls_native_certs::load_native_certs().certs.is_empty();
    let is_plain = settings.endpoint_url.as_ref().is_some_and(|url| url.scheme_str() == Some("http"));
    if !has_roots && !is_plain {
        return Err(wrong(
            "it is asked over TLS, and this system has no certificate authorities: install ca-certificates or set store.s3.ca_file"
                .to_owned(),
        ));
    }
    Ok(TrustStore::empty().with_native_roots(has_roots))
}

fn wrong(mut why: String) -> S3Error {
    why.insert_str(0, "S3 store: ");
    S3Error { advice: why, kind: S3ErrorKind::Other }
}

/// `store.s3.verify = false`: the SDK's own client cannot do without certificates, this one can. It goes through no proxy, of the environment neither.
fn trusting_anyone(settings: &config::S3Store) -> Result<SharedHttpConnector, S3Error> {
    if settings.proxy.is_some() {
        return Err(wrong(
            "store.s3.verify = false does not go together with store.s3.proxy: name the server's authority in store.s3.ca_file"
                .to_owned(),
        ));
    }
    tracing::warn!("store.s3.verify = false: whoever answers there is believed to be S3, and sees the pages");
    let config = trusting::in_everyone().map_err(|error| wrong(error.to_string()))?;
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.connect_timeout));
    let https = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.max_requests)
        .build(https);
    Ok(SharedHttpConnector::new(Trusting(client)))
}

struct Trusting(Client<HttpsConnector<Tcp>, SdkBody>);

impl fmt::Debug for Trusting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trusting")
    }
}

impl HttpConnector for Trusting {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            response
                .map(SdkBody::from_body_1_x)
                .try_into()
                .map_err(|error: aws_smithy_runtime_api::http::HttpError| ConnectorError::other(error.into(), None))
        })
    }
}
