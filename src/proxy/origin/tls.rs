//! How an https origin is trusted.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::{config, trust};

/// The TLS settings for this origin; `None` for a plain one.
///
/// # Errors
/// `origin.ca_file` cannot be read, or there is no certificate authority to trust.
pub fn client(origin: &config::Origin) -> anyhow::Result<Option<ClientConfig>> {
    if origin.url.scheme_str() != Some("https") {
        return Ok(None);
    }
    if !origin.verify {
        tracing::warn!("origin.verify = false: whoever answers at origin.url is believed to be the origin");
        return Ok(Some(trust::in_everyone()?));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Some(builder.with_root_certificates(roots(origin)?).with_no_client_auth()))
}

fn roots(origin: &config::Origin) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &origin.ca_file {
        let context = || format!("origin.ca_file = {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
            roots.add(certificate.with_context(context)?).with_context(context)?;
        }
        anyhow::ensure!(!roots.is_empty(), "{}: no certificate in it", context());
        return Ok(roots);
    }
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    anyhow::ensure!(
        !roots.is_empty(),
        "origin.url is https, and this system has no certificate authorities: install ca-certificates or set origin.ca_file"
    );
    Ok(roots)
}
