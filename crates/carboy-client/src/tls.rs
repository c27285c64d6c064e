//! Whom to trust and as whom to appear: the settings of rustls.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore,
    SignatureScheme,
};

use crate::settings::{HttpVersions, TlsVersions};
use crate::{Error, ErrorKind};

/// Which servers are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those whom the operating system trusts.
    #[default]
    Platform,
    /// Those whose certificate comes from one of these authorities, in DER.
    Authorities(Arc<Vec<Vec<u8>>>),
    /// As `Authorities`, whatever name the certificate has.
    AnyName(Arc<Vec<Vec<u8>>>),
    /// Everybody. The connection is secret, but nobody knows to whom.
    Everybody,
}

impl Trust {
    /// The authorities of a PEM file's content.
    ///
    /// # Errors
    ///
    /// `Tls` when there is no certificate in it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        Ok(Self::Authorities(Arc::new(certificates(pem)?)))
    }
}

/// A certificate chain and its private key, to show to servers that ask for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    key_pem: Vec<u8>,
}

impl Identity {
    /// From PEM: the chain, and the key, which may be the same text.
    ///
    /// # Errors
    ///
    /// `Tls` when there is no certificate or no readable key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let identity = Self {
            chain: certificates(chain)?,
            key_pem: key.to_vec(),
        };
        identity.key()?;
        Ok(identity)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(|error| {
            Error::caused(
                ErrorKind::Tls,
                "the client certificate's key can't be read (encrypted keys are not supported)",
                error,
            )
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| {
            Error::caused(ErrorKind::Tls, "the certificates can't be read", error)
        })?;
        found.push(certificate.to_vec());
    }
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Tls,
            "there is no PEM certificate in it",
        ));
    }
    Ok(found)
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// The settings of rustls for connections to servers. The platform's roots are read once per
/// process.
///
/// # Errors
///
/// `Tls` when certificates or the key can't be used.
pub(crate) fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
    versions: HttpVersions,
    tls_versions: TlsVersions,
) -> Result<Arc<ClientConfig>, Error> {
    static PLATFORM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if *trust == Trust::Platform
        && identity.is_none()
        && versions == HttpVersions::Negotiated
        && tls_versions == TlsVersions::Both
    {
        if let Some(config) = PLATFORM.get() {
            return Ok(Arc::clone(config));
        }
        let config = build(trust, identity, versions, tls_versions)?;
        return Ok(Arc::clone(PLATFORM.get_or_init(|| config)));
    }
    let known = |settings: &Settings| {
        settings.trust == *trust
            && settings.identity.as_ref() == identity
            && settings.versions == versions
            && settings.tls_versions == tls_versions
    };
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, config)) = configs.iter().find(|(settings, _)| known(settings)) {
        return Ok(Arc::clone(config));
    }
    let config = build(trust, identity, versions, tls_versions)?;
    if configs.len() >= KEPT_CONFIGS {
        configs.remove(0);
    }
    let settings = Settings {
        trust: trust.clone(),
        identity: identity.cloned(),
        versions,
        tls_versions,
    };
    configs.push((settings, Arc::clone(&config)));
    Ok(config)
}

/// Settings that were made last, for the connections to come: making them anew means to parse
/// every certificate, and forgets the sessions that could be resumed.
static CONFIGS: Mutex<Vec<(Settings, Arc<ClientConfig>)>> = Mutex::new(Vec::new());

const KEPT_CONFIGS: usize = 32;

struct Settings {
    trust: Trust,
    identity: Option<Identity>,
    versions: HttpVersions,
    tls_versions: TlsVersions,
}

fn build(
    trust: &Trust,
    identity: Option<&Identity>,
    versions: HttpVersions,
    tls_versions: TlsVersions,
) -> Result<Arc<ClientConfig>, Error> {
    let failed = |error: RustlsError| Error::caused(ErrorKind::Tls, "TLS can't be set up", error);
    let accepted = match tls_versions {
        TlsVersions::Both => &[&TLS13, &TLS12][..],
        TlsVersions::Tls12Only => &[&TLS12],
        TlsVersions::Tls13Only => &[&TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(accepted)
        .map_err(failed)?;
    let builder = match trust {
        Trust::Platform => builder.with_platform_verifier().map_err(failed)?,
        Trust::Authorities(authorities) => builder.with_root_certificates(roots(authorities)?),
        Trust::AnyName(authorities) => {
            let chain = WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots(authorities)?),
                provider(),
            )
            .build()
            .map_err(|error| Error::caused(ErrorKind::Tls, "TLS can't be set up", error))?;
            let verifier = Arc::new(LenientVerifier { chain: Some(chain) });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
        Trust::Everybody => {
            let verifier = Arc::new(LenientVerifier { chain: None });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = identity.chain.iter().cloned().map(CertificateDer::from);
            builder
                .with_client_auth_cert(chain.collect(), identity.key()?)
                .map_err(failed)?
        }
    };
    config.alpn_protocols = match versions {
        HttpVersions::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersions::Http1Only => vec![b"http/1.1".to_vec()],
        HttpVersions::Http2Only => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let certificates = authorities.iter().cloned().map(CertificateDer::from);
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(Error::new(
            ErrorKind::Tls,
            "none of the given certificates is that of an authority",
        ));
    }
    Ok(store)
}

/// Checks less than it should, because the user has said so: `verify=False`, or a context
/// with `check_hostname = False`. Signatures of the handshake are checked all the same.
#[derive(Debug)]
struct LenientVerifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain was good, or there would be another error: the name is checked last.
            Err(RustlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &provider().signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &provider().signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
