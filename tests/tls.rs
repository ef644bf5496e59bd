//! `transport::Http` over TLS: whom it believes, and whom it does not.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and asks the real clock"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hotspan::transport::{EnvelopeBuf, Http, HttpOptions, Response, SendError, Transport};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const AUTH: &str = "Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7";

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(40);

/// An authority, with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = format!("hotspan-tls-{}-{name}.pem", std::process::id());
        let file = std::env::temp_dir().join(file);
        std::fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A server with a certificate of this authority.
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Server {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Server::start(Arc::new(config))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Answers one connection: 200 to each request, until the client goes. Returns the bodies.
struct Server {
    address: SocketAddr,
    bodies: JoinHandle<Vec<Vec<u8>>>,
}

impl Server {
    fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (stream, _) = listener.accept().unwrap();
            let session = ServerConnection::new(config).unwrap();
            let mut bodies = Vec::new();
            let mut reader = BufReader::new(StreamOwned::new(session, stream));
            // An error is a client that does not believe us, or is gone.
            while let Ok(Some(body)) = read_body(&mut reader) {
                bodies.push(body);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                if reader.get_mut().write_all(answer).is_err() {
                    break;
                }
            }
            bodies
        };
        Self { address, bodies: thread::Builder::new().spawn(serve).unwrap() }
    }

    fn send(&self, ca_certs: Option<&Path>) -> Result<Response, SendError> {
        let url = format!("https://localhost:{}/api/1/envelope/", self.address.port());
        let mut options = HttpOptions::new(url, AUTH).timeout(LONG).connect_timeout(LONG);
        if let Some(file) = ca_certs {
            options = options.ca_certs(file);
        }
        let mut http = Http::new(options).unwrap();
        let envelope = EnvelopeBuf::from_bytes("{}\n".repeat(1000));
        let first = http.send(&envelope.as_envelope())?;
        assert_eq!(http.send(&envelope.as_envelope()).unwrap(), first, "the same connection");
        Ok(first)
    }

    /// Sends, expects that the server is not believed, and that it got nothing.
    fn expect_refusal(self, ca_certs: Option<&Path>) {
        let error = self.send(ca_certs).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("certificate"), "{text}");
            assert!(!text.contains("0123456789abcdef"), "{text}");
        }
        assert!(self.bodies.join().unwrap().is_empty());
    }
}

fn read_body(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    let mut lines = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 && lines == 0 {
            return Ok(None);
        }
        lines += 1;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

#[test]
fn an_authority_of_one_s_own_is_believed_when_it_is_named() {
    let authority = Authority::new("own");
    let server = authority.server(|_| {});
    assert_eq!(server.send(Some(&authority.file)).unwrap().status, 200);
    assert_eq!(server.bodies.join().unwrap().len(), 2);
}

#[test]
fn an_unknown_authority_is_not_believed() {
    let (authority, other) = (Authority::new("unknown"), Authority::new("other"));
    authority.server(|_| {}).expect_refusal(None);
    authority.server(|_| {}).expect_refusal(Some(&other.file));
}

#[test]
fn a_certificate_for_another_host_is_not_believed() {
    let authority = Authority::new("host");
    let other = CertificateParams::new(["sentry.invalid".to_owned()]).unwrap().subject_alt_names;
    authority
        .server(|params| params.subject_alt_names = other)
        .expect_refusal(Some(&authority.file));
}

#[test]
fn an_expired_certificate_is_not_believed() {
    let authority = Authority::new("expired");
    authority
        .server(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
        .expect_refusal(Some(&authority.file));
}

#[test]
fn a_handshake_that_stalls_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let timeout = Duration::from_millis(200);
    let mut http = Http::new(HttpOptions::new(url, AUTH).connect_timeout(timeout)).unwrap();
    let start = Instant::now();
    http.send(&EnvelopeBuf::from_bytes("{}\n").as_envelope()).unwrap_err();
    assert!(start.elapsed() >= timeout && start.elapsed() < LONG, "{:?}", start.elapsed());
}
