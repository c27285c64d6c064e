//! TLS: whom the client trusts, and what is negotiated.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use carboy_client::{Client, ClientSettings, ErrorKind, HttpVersions, Identity, Trust};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Upstream, fetch, get, run, wait_for};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use url::Url;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // A name of its own, or another authority would be taken for this one.
        let name = format!("authority {:x}", fastrand::u64(..));
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn issue(&self, name: &str, is_expired: bool) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.issuer.pem().as_bytes()).unwrap()
    }
}

/// Serves the version of HTTP by TLS, h2 first.
async fn serve(
    authority: &Authority,
    name: &str,
    is_expired: bool,
    wants_identity: bool,
) -> Upstream {
    let (certificate, key) = authority.issue(name, is_expired);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wants_identity {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Upstream::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                let text = format!("{:?} {}", request.version(), request.uri());
                Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from(text))))
            });
            let io = TokioIo::new(stream);
            if is_http2 {
                let builder = hyper::server::conn::http2::Builder::new(Local);
                builder.serve_connection(io, service).await.ok();
            } else {
                let builder = hyper::server::conn::http1::Builder::new();
                builder.serve_connection(io, service).await.ok();
            }
        }
    })
    .await
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

fn client(trust: Trust, identity: Option<Identity>, versions: HttpVersions) -> Client {
    Client::new(Arc::new(ClientSettings {
        trust,
        identity,
        versions,
        ..ClientSettings::default()
    }))
}

fn https(upstream: &Upstream) -> Url {
    let mut url = upstream.url("/x");
    url.set_scheme("https").unwrap();
    url
}

#[test]
fn the_version_is_negotiated() {
    run(async {
        let authority = Authority::new();
        let upstream = serve(&authority, "127.0.0.1", false, false).await;
        for (versions, expected) in [
            (HttpVersions::Negotiated, "HTTP/2.0 https://"),
            (HttpVersions::Http1Only, "HTTP/1.1 /x"),
            (HttpVersions::Http2Only, "HTTP/2.0 https://"),
        ] {
            let client = client(authority.trust(), None, versions);
            let (response, content) = fetch(&client, get(https(&upstream))).await.unwrap();
            assert!(content.starts_with(expected), "{content}");
            assert!(response.body.timings().tls.is_some());
        }
    });
}

#[test]
fn many_requests_share_one_connection() {
    run(async {
        let authority = Authority::new();
        let upstream = serve(&authority, "127.0.0.1", false, false).await;
        let client = client(authority.trust(), None, HttpVersions::Negotiated);
        fetch(&client, get(https(&upstream))).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..250 {
            let (client, request) = (client.clone(), get(https(&upstream)));
            calls.spawn_local(async move { fetch(&client, request).await.map(drop) });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap().unwrap();
        }
        let at_most = client.statistics().connections;
        assert!(
            at_most <= 3,
            "{at_most} connections for 250 requests at once"
        );
        wait_for(&client, |pool| {
            pool.idle == pool.connections && pool.waiting == 0
        })
        .await;
    });
}

#[test]
fn strangers_are_not_trusted() {
    run(async {
        let authority = Authority::new();
        let good = serve(&authority, "127.0.0.1", false, false).await;
        let expired = serve(&authority, "127.0.0.1", true, false).await;
        let misnamed = serve(&authority, "example.com", false, false).await;
        let stranger = Authority::new();
        for (upstream, trust, expected) in [
            (&good, stranger.trust(), "UnknownIssuer"),
            (&good, Trust::Platform, "UnknownIssuer"),
            (&expired, authority.trust(), "expired"),
            (&misnamed, authority.trust(), "not valid for name"),
        ] {
            let client = client(trust, None, HttpVersions::Negotiated);
            let error = fetch(&client, get(https(upstream))).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.message().contains(expected), "{error}");
            assert_eq!(client.statistics().connections, 0);
        }
        let Trust::Authorities(authorities) = authority.trust() else {
            unreachable!("that is what a PEM file holds");
        };
        for (upstream, trust) in [
            (&misnamed, Trust::AnyName(authorities.clone())),
            (&expired, Trust::Everybody),
        ] {
            let client = client(trust, None, HttpVersions::Negotiated);
            fetch(&client, get(https(upstream))).await.unwrap();
        }
        let of_nobody = client(Trust::AnyName(authorities), None, HttpVersions::Negotiated);
        let error = fetch(&of_nobody, get(https(&expired))).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tls);
    });
}

#[test]
fn a_client_shows_its_certificate() {
    run(async {
        let authority = Authority::new();
        let upstream = serve(&authority, "127.0.0.1", false, true).await;
        let (certificate, key) = authority.issue("client", false);
        let chain = pem(&certificate);
        let identity = Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes());
        let known = client(
            authority.trust(),
            Some(identity.unwrap()),
            HttpVersions::Negotiated,
        );
        fetch(&known, get(https(&upstream))).await.unwrap();
        let unknown = client(authority.trust(), None, HttpVersions::Http1Only);
        assert!(fetch(&unknown, get(https(&upstream))).await.is_err());
    });
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let encoded = base64::prelude::BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
}
