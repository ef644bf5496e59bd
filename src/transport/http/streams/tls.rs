//! TLS in which HTTP/2 is asked for: what `ureq` does, and ALPN.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Error;
use ureq::http::Uri;
use ureq::tls::RootCerts;

use super::socket::Socket;
use crate::transport::http::options::{HttpError, HttpOptions};
use crate::transport::http::trust;

/// The names of protocols in TLS (RFC 9113, section 3.2; RFC 7301, section 6).
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// A connection behind TLS.
pub(super) type Stream = Box<StreamOwned<ClientConnection, Socket>>;

/// Whom TLS believes, and whom it is to reach.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(options: &HttpOptions, uri: &Uri) -> Result<Self, HttpError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let server = ServerName::try_from(host.to_owned())
            .map_err(|_| HttpError::new("url", "names a host that no certificate can name"))?;
        // As `ureq`: the process's own, else ring.
        let provider = CryptoProvider::get_default();
        let provider = provider.map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let failed = |_| HttpError::new("url", "has no TLS that this build can speak");
        let builder = builder.with_protocol_versions(ALL_VERSIONS).map_err(failed)?;
        let mut config = match trust::roots(options)? {
            #[cfg(feature = "platform-verifier")]
            RootCerts::PlatformVerifier => {
                let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(failed)?;
                // What is dangerous about it is to bring one of one's own.
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            RootCerts::Specific(certificates) => {
                let mut roots = RootCertStore::empty();
                let der = certificates.iter().map(|each| CertificateDer::from(each.der()));
                roots.add_parsable_certificates(der);
                builder.with_root_certificates(roots)
            }
            _ => {
                let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(public);
                builder.with_root_certificates(roots)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = [H2, HTTP_1_1].map(<[u8]>::to_vec).into();
        Ok(Self { config: Arc::new(config), server })
    }

    /// Shakes hands, in the time that the socket has. `None` where the server does not choose
    /// HTTP/2.
    pub(super) fn shake_hands(&self, mut socket: Socket) -> Result<Option<Stream>, Error> {
        let mut session = ClientConnection::new(Arc::clone(&self.config), self.server.clone())?;
        session.complete_io(&mut socket)?;
        let is_agreed = session.alpn_protocol() == Some(H2);
        Ok(is_agreed.then(|| Box::new(StreamOwned::new(session, socket))))
    }
}
