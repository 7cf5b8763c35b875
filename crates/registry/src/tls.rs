//! TLS of this program's own HTTP, and words for a server that cannot be trusted.
//!
//! Rustls with the system's roots, or with the certificates of a file. librdkafka has a TLS of its
//! own: docs/decisions/0026-openssl-is-bundled.md.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConnection;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// The certificate files of a TLS client; each may be absent.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates (PEM) that sign the server's; the system's roots where absent.
    pub ca: Option<PathBuf>,
    /// Certificates (PEM) that this client shows, its own first.
    pub certificate: Option<PathBuf>,
    /// The private key (PEM, not encrypted) of the first certificate.
    pub key: Option<PathBuf>,
}

/// A certificate file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TlsFault {
    /// `ca`, `certificate` or `key`.
    pub field: &'static str,
    /// The file, the fault and the remedy.
    pub problem: String,
}

fn fault(field: &'static str, path: &Path, problem: &str) -> TlsFault {
    TlsFault {
        field,
        problem: format!("{} {problem}", path.display()),
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// A file that cannot be read or holds no certificate.
pub fn certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let pem = std::fs::read(path)
        .map_err(|error| fault(field, path, &format!("cannot be read: {error}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(fault(
            field,
            path,
            "contains no certificate; name a PEM file with BEGIN CERTIFICATE",
        )),
        Err(error) => Err(fault(field, path, &format!("is not PEM: {error}"))),
    }
}

/// The private key of a PEM file.
///
/// # Errors
/// A file that cannot be read, holds no key, or an encrypted one.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let pem = std::fs::read(path)
        .map_err(|error| fault("key", path, &format!("cannot be read: {error}")))?;
    if is_encrypted_key(&pem) {
        return Err(fault(
            "key",
            path,
            "is encrypted; write an unencrypted copy with `openssl pkey`",
        ));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        fault(
            "key",
            path,
            "contains no private key; name a PEM file with BEGIN PRIVATE KEY",
        )
    })
}

/// True for a PEM file whose private key needs a password.
pub fn is_encrypted_key(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

impl TlsFiles {
    /// As [`Self::client_config`]; where neither a file nor the system has roots, a configuration with which
    /// only plain HTTP is possible: connections over TLS fail with words.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn client_config_or_plain(&self) -> Result<ClientConfig, TlsFault> {
        match self.client_config() {
            Err(_) if self.ca.is_none() => Ok(without_roots()),
            config => config,
        }
    }

    /// A client's configuration.
    ///
    /// # Errors
    /// A file that cannot be used, or a system without roots.
    pub fn client_config(&self) -> Result<ClientConfig, TlsFault> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions");
        let builder = match &self.ca {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("ca", ca)? {
                    roots
                        .add(certificate)
                        .map_err(|error| fault("ca", ca, &format!("cannot be used: {error}")))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(&provider),
                )
                .build()
                .map_err(|error| fault("ca", ca, &format!("cannot be used: {error}")))?;
                builder.with_webpki_verifier(verifier)
            }
            None => builder.with_platform_verifier().map_err(|error| TlsFault {
                field: "ca",
                problem: format!(
                    "the system's root certificates cannot be loaded ({error}); install \
                     ca-certificates, or name a PEM file"
                ),
            })?,
        };
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates("certificate", certificate)?, private_key(key)?)
                .map_err(|error| {
                    let problem = format!("does not fit {}: {error}", certificate.display());
                    fault("key", key, &problem)
                }),
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(_), None) => Err(TlsFault {
                field: "key",
                problem: "is missing: a certificate is shown with its private key".into(),
            }),
            (None, Some(_)) => Err(TlsFault {
                field: "certificate",
                problem: "is missing: a private key belongs to a certificate".into(),
            }),
        }
    }
}

/// A configuration for clients that make no TLS connection: it trusts nobody and reads no file.
pub(crate) fn without_roots() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The reason for which a server's certificate is not accepted, in words: expired, signed by an
/// unknown authority, made for another name. `None` where a handshake succeeds, or fails otherwise.
///
/// `address` is `host:port`. Connects, and waits at most `limit` for each answer. librdkafka
/// reports all of these as "certificate verify failed", and its binding has no callback for them.
pub fn why_untrusted(address: &str, files: &TlsFiles, limit: Duration) -> Option<String> {
    let host = address.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let config = TlsFiles {
        ca: files.ca.clone(),
        ..TlsFiles::default()
    }
    .client_config()
    .ok()?;
    let place = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&place, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    while connection.is_handshaking() {
        let error = match connection.complete_io(&mut stream) {
            Ok(_) => continue,
            Err(error) => error,
        };
        let inner = error.into_inner()?;
        return match inner.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(cause) => Some(untrusted(host, cause)),
            _ => None,
        };
    }
    None
}

fn untrusted(host: &str, cause: &CertificateError) -> String {
    const DAY_SECS: u64 = 86_400;
    match cause {
        CertificateError::Expired => "its certificate has expired".into(),
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / DAY_SECS;
            format!("its certificate has expired, {days} days ago")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".into()
        }
        // Another authority of the same name gives a signature that does not fit.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by an authority that is not trusted here".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not made for the name {host}")
        }
        other => format!("its certificate is refused ({other})"),
    }
}
