//! `transport::Http` over TLS: whom it believes, and whom it does not, on the straight way and through
//! a proxy that is asked to connect.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and asks the real clock"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hotspan::transport::{
    EnvelopeBuf, Http, HttpOptions, Response, SendError, SendErrorKind, Transport,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

mod support;
use support::tls::{Authority, config};
use support::tunnel::tunnel;

const AUTH: &str = "Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7";

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(40);

/// A server with a certificate of this authority.
trait Vouching {
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Server;
}

impl Vouching for Authority {
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Server {
        Server::start(self.config(change))
    }
}

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Straight,
    Proxy,
}

const WAYS: [Way; 2] = [Way::Straight, Way::Proxy];

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

    fn send(&self, ca_certs: Option<&Path>, way: Way) -> Result<Response, SendError> {
        let mut http = client(self.address, ca_certs, way, LONG);
        let first = http.send(&envelope().as_envelope())?;
        assert_eq!(http.send(&envelope().as_envelope()).unwrap(), first, "the same connection");
        Ok(first)
    }

    /// Sends, expects that the server is not believed, and that it got nothing.
    fn expect_refusal(self, ca_certs: Option<&Path>, way: Way) {
        let error = self.send(ca_certs, way).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Tls, "{error}");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("certificate"), "{text}");
            assert!(!text.contains("0123456789abcdef"), "{text}");
        }
        assert!(self.bodies.join().unwrap().is_empty());
    }
}

fn envelope() -> EnvelopeBuf {
    EnvelopeBuf::from_bytes("{}\n".repeat(1000))
}

/// A client for the server on this port.
fn client(server: SocketAddr, ca_certs: Option<&Path>, way: Way, connect: Duration) -> Http {
    let url = format!("https://localhost:{}/api/1/envelope/", server.port());
    let mut options = HttpOptions::new(url, AUTH).timeout(LONG).connect_timeout(connect);
    if let Some(file) = ca_certs {
        options = options.ca_certs(file);
    }
    if way == Way::Proxy {
        options = options.proxy(format!("http://{}", tunnel(server, "localhost")));
    }
    Http::new(options).unwrap()
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
    let authority = Authority::new();
    for way in WAYS {
        let server = authority.server(|_| {});
        assert_eq!(server.send(Some(authority.file()), way).unwrap().status, 200);
        assert_eq!(server.bodies.join().unwrap().len(), 2);
    }
}

#[test]
fn an_unknown_authority_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    for way in WAYS {
        #[cfg(not(feature = "platform-verifier"))]
        authority.server(|_| {}).expect_refusal(None, way);
        authority.server(|_| {}).expect_refusal(Some(other.file()), way);
    }
}

#[test]
fn a_certificate_that_vouches_for_itself_is_not_believed() {
    let other = Authority::new();
    for way in WAYS {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Server::start(config(certificate.der().clone(), &key))
            .expect_refusal(Some(other.file()), way);
    }
}

/// Whatever the system trusts, it is none of ours.
#[test]
#[cfg(feature = "platform-verifier")]
fn the_system_does_not_believe_an_unknown_authority() {
    let authority = Authority::new();
    for way in WAYS {
        let server = authority.server(|_| {});
        let error = server.send(None, way).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Tls, "{error}");
        assert!(server.bodies.join().unwrap().is_empty());
    }
}

#[test]
fn a_certificate_for_another_host_is_not_believed() {
    let authority = Authority::new();
    let other = CertificateParams::new(["sentry.invalid".to_owned()]).unwrap().subject_alt_names;
    for way in WAYS {
        authority
            .server(|params| params.subject_alt_names = other.clone())
            .expect_refusal(Some(authority.file()), way);
    }
}

#[test]
fn a_certificate_that_is_over_or_has_not_begun_is_not_believed() {
    let authority = Authority::new();
    for way in WAYS {
        authority
            .server(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
            .expect_refusal(Some(authority.file()), way);
        authority
            .server(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1))
            .expect_refusal(Some(authority.file()), way);
    }
}

/// A server that answers what the client says first with these bytes, and does nothing more.
fn mute(answer: &'static [u8]) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello).unwrap();
        stream.write_all(answer).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    };
    (address, thread::Builder::new().spawn(serve).unwrap())
}

#[test]
fn a_server_that_speaks_only_tls_1_0_is_refused() {
    // A handshake record of 42 bytes: a hello of 38, version 3.1, 32 bytes of chance, no session,
    // RSA with AES-128-CBC and SHA, no compression.
    const HELLO: &[u8; 47] = b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01\
        0123456789abcdef0123456789abcdef\x00\x00\x2f\x00";
    // Or it says so: an alert of 2 bytes, fatal, `protocol_version`.
    const ALERT: &[u8; 7] = b"\x15\x03\x01\x00\x02\x02\x46";
    for way in WAYS {
        for answer in [&HELLO[..], &ALERT[..]] {
            let (address, heard) = mute(answer);
            let start = Instant::now();
            let mut http = client(address, None, way, LONG);
            let error = http.send(&envelope().as_envelope()).unwrap_err();
            assert_eq!(error.kind(), SendErrorKind::Tls, "{error}");
            assert!(start.elapsed() < LONG / 2);
            drop(http);
            // An alert at most.
            assert!(heard.join().unwrap().len() <= 7);
        }
    }
}

#[test]
fn what_is_no_tls_is_refused() {
    for way in WAYS {
        let (address, heard) = mute(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let error = client(address, None, way, LONG).send(&envelope().as_envelope()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Tls, "{error}");
        assert!(heard.join().unwrap().len() <= 7);
    }
}

#[test]
fn a_handshake_that_stalls_is_left_in_time() {
    for way in WAYS {
        let (address, heard) = mute(b"");
        let timeout = Duration::from_millis(200);
        let mut http = client(address, None, way, timeout);
        let start = Instant::now();
        let error = http.send(&envelope().as_envelope()).unwrap_err();
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert!(error.kind() == SendErrorKind::Connect && error.is_timeout(), "{error:?}");
        assert!(heard.join().unwrap().is_empty());
    }
}

/// Connections that just end, with no word that they do, are replaced.
#[test]
fn a_close_without_notice_costs_only_the_connection() {
    let authority = Authority::new();
    let answers = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..],
        // The body ends with the connection, or should not have ended yet: the status decides.
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    ];
    for way in WAYS {
        let (config, listener) =
            (authority.config(|_| {}), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let serve = move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut reader = BufReader::new(StreamOwned::new(session, stream));
                read_body(&mut reader).unwrap().unwrap();
                // Dropped without `send_close_notify`.
                reader.get_mut().write_all(answer).unwrap();
            }
            // In the middle of an answer's head it is none.
            let (stream, _) = listener.accept().unwrap();
            let session = ServerConnection::new(config).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(session, stream));
            read_body(&mut reader).unwrap().unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 200 O").unwrap();
        };
        let serving = thread::Builder::new().spawn(serve).unwrap();
        let mut http = client(address, Some(authority.file()), way, LONG);
        for answer in answers {
            let response = http.send(&envelope().as_envelope());
            assert_eq!(response.unwrap().status, 200, "{}", String::from_utf8_lossy(answer));
        }
        let error = http.send(&envelope().as_envelope()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Broken, "{error}");
        serving.join().unwrap();
    }
}

/// In a process of its own, which has the variable.
#[test]
#[cfg(not(feature = "platform-verifier"))]
fn certificates_are_named_by_the_environment_too() {
    const DSN: &str = "HOTSPAN_TEST_DSN";
    if let Ok(dsn) = std::env::var(DSN) {
        let config = hotspan::Config {
            dsn: Some(dsn),
            traces_sample_rate: Some(1.0),
            request_timeout: LONG,
            connect_timeout: LONG,
            ..hotspan::Config::default()
        };
        match hotspan::init(config) {
            Ok(guard) => {
                drop(hotspan::start_transaction("op", "name"));
                assert_eq!(guard.close(LONG).delivered.transactions, 1);
            }
            Err(error) => {
                assert_eq!(error.variable(), Some("SSL_CERT_FILE"), "{error}");
                let source = std::error::Error::source(&error).unwrap().to_string();
                assert!(source.starts_with("`ca_certs` cannot be read"), "{source}");
                print!("refused");
            }
        }
        return;
    }
    let run = |file: &Path, port: u16| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "certificates_are_named_by_the_environment_too", "--nocapture"])
            .env("SSL_CERT_FILE", file)
            .env(DSN, format!("https://key@localhost:{port}/1"))
            .output()
            .unwrap()
    };
    let authority = Authority::new();
    let server = authority.server(|_| {});
    let output = run(authority.file(), server.address.port());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!server.bodies.join().unwrap().is_empty());
    let output = run(Path::new("nowhere.pem"), 1);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("refused"), "{text}");
}
