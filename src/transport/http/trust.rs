//! Whom TLS believes.
//!
//! The public authorities that are built in; or, with the feature `platform-verifier`, whom the
//! operating system trusts. A file of one's own is trusted besides the public authorities: `ureq`
//! hands no certificates to the system's verifier, so that it is not asked then.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::options::{HttpError, HttpOptions};

pub(super) fn tls(options: &HttpOptions) -> Result<TlsConfig, HttpError> {
    Ok(TlsConfig::builder().root_certs(roots(options)?).build())
}

pub(super) fn roots(options: &HttpOptions) -> Result<RootCerts, HttpError> {
    let Some(file) = &options.ca_certs else {
        return Ok(match cfg!(feature = "platform-verifier") {
            true => RootCerts::PlatformVerifier,
            false => RootCerts::WebPki,
        });
    };
    let problem = |problem: String| HttpError::new("ca_certs", problem);
    let pem = std::fs::read(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(problem("is not PEM".to_owned())),
        }
    }
    if certificates.is_empty() {
        return Err(problem("holds no certificate".to_owned()));
    }
    let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    certificates.extend(public.map(|root| Certificate::from_der(root)));
    Ok(RootCerts::from(certificates))
}
