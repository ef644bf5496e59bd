//! `transport::Http` against a real server on loopback: what arrives, and what becomes of bad
//! answers.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and asks the real clock"
)]

use std::time::{Duration, Instant};

use hotspan::transport::{EnvelopeBuf, Http, HttpOptions, Response, SendError, Transport};

mod support;
use support::server::{Reply, Server};

const AUTH: &str = "Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7, \
                    sentry_client=hotspan/0.0.0";

/// Far longer than anything here takes, far shorter than a hang.
const LONG: Duration = Duration::from_secs(40);

fn options(server: &Server) -> HttpOptions {
    HttpOptions::new(server.url(), AUTH).timeout(LONG)
}

fn http(server: &Server) -> Http {
    Http::new(options(server)).unwrap()
}

/// An envelope of about that many bytes, as compressible as spans are.
fn envelope(bytes: usize) -> EnvelopeBuf {
    let mut text = String::from(
        "{\"event_id\":\"9ec79c33ec9942ab8353589fcb2e04dc\",\
         \"sent_at\":\"2026-01-02T03:04:05.000006Z\"}\n{\"type\":\"transaction\"}\n",
    );
    let mut id = 1_u64;
    while text.len() < bytes {
        id = id.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!(
            "{{\"span_id\":\"{id:016x}\",\"parent_span_id\":\"fa90fdead5f74052\",\
             \"trace_id\":\"4c79f60c11214eb38604f4ae0781bfb2\",\"op\":\"db.query\",\
             \"description\":\"SELECT name FROM item WHERE id = ?\",\
             \"start_timestamp\":1767323045.{:06},\"timestamp\":1767323045.{:06},\
             \"status\":\"ok\"}},",
            id >> 45,
            id >> 44 & 0x7_ffff
        );
    }
    EnvelopeBuf::from_bytes(text)
}

fn send(http: &mut Http, envelope: &EnvelopeBuf) -> Result<Response, SendError> {
    http.send(&envelope.as_envelope())
}

fn status(http: &mut Http) -> Option<u16> {
    send(http, &envelope(300)).ok().map(|response| response.status)
}

#[test]
fn what_arrives_is_what_was_written() {
    let server = Server::start();
    let mut http = http(&server);
    for bytes in [1, 900, 2_000, 10_000, 1_000_000] {
        let envelope = envelope(bytes);
        let response = send(&mut http, &envelope).unwrap();
        assert_eq!(response, Response::status(200));
        let request = server.requests().pop().unwrap();
        assert_eq!((&*request.method, &*request.target), ("POST", "/api/42/envelope/"));
        assert!(request.unpacked() == envelope.as_envelope().as_bytes());
        let packed = request.header("content-encoding") == Some("gzip");
        assert_eq!(packed, envelope.as_envelope().as_bytes().len() > 1024, "{bytes}");
        assert_eq!(request.header("x-sentry-auth"), Some(AUTH));
        assert_eq!(request.header("content-type"), Some("application/x-sentry-envelope"));
        assert_eq!(request.header("host"), Some(&*server.address().to_string()));
        let agent = concat!("hotspan/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), Some(agent));
        assert_eq!(request.header("accept-encoding"), None);
        assert_eq!(request.header("expect"), None);
    }
}

#[test]
fn one_connection_serves_many_envelopes_whatever_the_answers() {
    let server = Server::start();
    let mut http = http(&server);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for round in 0..30 {
        match round % 6 {
            0 => server.reply(Reply::status(429, &[("Retry-After", "1")], b"{\"detail\":\"x\"}")),
            1 => server.reply(Reply::status(200, &[], b"")),
            2 => server.reply(Reply::Bytes(chunked.to_vec())),
            3 => server.reply(Reply::status(503, &[], &[b'x'; 60_000])),
            4 => server.reply(Reply::status(302, &[("Location", "/elsewhere")], b"moved")),
            _ => {}
        }
        send(&mut http, &envelope(500 * round)).unwrap();
    }
    assert_eq!(server.requests().len(), 30);
    assert_eq!(server.connections(), 1);
}

#[test]
fn no_redirect_is_followed() {
    let (server, target) = (Server::start(), Server::start());
    let mut http = http(&server);
    for code in [301, 302, 303, 307, 308] {
        server.reply(Reply::status(code, &[("Location", &target.url())], b""));
        assert_eq!(status(&mut http), Some(code));
    }
    assert_eq!(server.requests().len(), 5);
    assert_eq!(target.connections(), 0);
}

#[test]
fn limits_are_read_from_every_answer() {
    let server = Server::start();
    let mut http = http(&server);
    for code in [200, 429, 503] {
        let headers = [
            ("X-Sentry-Rate-Limits", "60:transaction:key"),
            ("Retry-After", "60"),
            ("x-sentry-rate-limits", "2700:default;error:organization"),
        ];
        server.reply(Reply::status(code, &headers, b"{}"));
        let response = send(&mut http, &envelope(100)).unwrap();
        assert_eq!(response.status, code);
        let limits = "60:transaction:key,2700:default;error:organization";
        assert_eq!(response.rate_limits.as_deref(), Some(limits));
        assert_eq!(response.retry_after.as_deref(), Some("60"));
    }
}

#[test]
fn an_endless_body_is_left_after_64_kib_and_costs_only_the_connection() {
    let server = Server::start();
    let mut http = http(&server);
    for head in ["Content-Length: 99999999999\r\n", "", "Content-Encoding: gzip\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
        server.reply(Reply::Endless(head.into_bytes()));
        assert_eq!(status(&mut http), Some(200), "the status decides");
    }
    server.wait_for_closed(3);
    // What the client read, and what the socket buffers of both ends hold.
    assert!(server.endless_bytes() < 3 * 16 * 1024 * 1024, "{}", server.endless_bytes());
    assert_eq!(status(&mut http), Some(200));
    assert_eq!(server.connections(), 4);
}

#[test]
fn a_packed_answer_is_not_unpacked_beyond_the_bound() {
    let server = Server::start();
    let mut http = http(&server);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, &vec![0; 40 << 20]).unwrap();
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
    server.reply(Reply::status(200, &[("Content-Encoding", "gzip")], &bomb));
    let start = Instant::now();
    assert_eq!(status(&mut http), Some(200));
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_body_that_trickles_does_not_change_the_verdict_nor_hold_things_up() {
    let server = Server::start();
    let mut http = http(&server);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    server.reply(Reply::Drip([&head[..], &[b'x'; 1_000_000]].concat(), Duration::from_millis(1)));
    let start = Instant::now();
    assert_eq!(status(&mut http), Some(200));
    assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
}

#[test]
fn no_answer_in_time_is_an_error() {
    let server = Server::start();
    let head = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 50_000]].concat();
    let drip = Reply::Drip(head, Duration::from_millis(1));
    for reply in [Reply::Hang, drip] {
        server.reply(reply);
        let timeout = Duration::from_millis(200);
        let mut http = Http::new(options(&server).timeout(timeout)).unwrap();
        let start = Instant::now();
        let error = send(&mut http, &envelope(100)).unwrap_err().to_string();
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert!(error.starts_with("no answer: "), "{error}");
    }
}

#[test]
fn a_peer_that_never_reads_is_left_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/1/envelope/", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(200);
    let mut http = Http::new(HttpOptions::new(url, AUTH).timeout(timeout)).unwrap();
    // Does not compress, and fits into no socket buffer.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let envelope = EnvelopeBuf::from_bytes(noise.take(6 << 20).collect::<Vec<_>>());
    let start = Instant::now();
    send(&mut http, &envelope).unwrap_err();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[test]
fn nonsense_is_an_error_and_the_next_envelope_goes_through() {
    let server = Server::start();
    let mut http = http(&server);
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(1000));
    for nonsense in [
        &b""[..],
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        huge.as_bytes(),
        many.as_bytes(),
    ] {
        server.reply(Reply::Close(nonsense.to_vec()));
        let shown = String::from_utf8_lossy(&nonsense[..nonsense.len().min(60)]);
        assert_eq!(status(&mut http), None, "{shown:?}");
        assert_eq!(status(&mut http), Some(200), "after {shown:?}");
    }
}

#[test]
fn a_status_out_of_range_is_an_answer() {
    let server = Server::start();
    server.reply(Reply::status(999, &[], b""));
    assert_eq!(status(&mut http(&server)), Some(999));
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    let server = Server::start();
    let mut http = http(&server);
    for round in 1..4 {
        server.reply(Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
        assert_eq!(status(&mut http), Some(200));
        server.wait_for_closed(round);
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn nobody_there_is_an_error_without_a_secret() {
    let url = Server::start().url();
    let mut http = Http::new(HttpOptions::new(url, AUTH)).unwrap();
    let error = send(&mut http, &envelope(100)).unwrap_err();
    for text in [error.to_string(), format!("{error:?}"), format!("{http:?}")] {
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
}

#[test]
fn a_send_can_be_broken_off_from_another_thread() {
    let server = Server::start();
    server.reply(Reply::Hang);
    let mut http = http(&server);
    let interrupt = http.interrupter().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| status(&mut http));
        server.wait_for_requests(1);
        interrupt();
        assert_eq!(sending.join().unwrap(), None);
    });
    assert!(start.elapsed() < LONG / 2);
    assert_eq!(status(&mut http), None, "nothing is sent afterwards");
}

#[test]
fn a_host_name_is_looked_up() {
    let server = Server::start();
    let url = server.url().replace("127.0.0.1", "localhost");
    let mut http = Http::new(HttpOptions::new(url, AUTH)).unwrap();
    assert_eq!(status(&mut http), Some(200));
    assert_eq!(status(&mut http), Some(200));
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_proxy_is_asked_to_connect_and_sees_no_key_in_that() {
    let proxy = Server::start();
    proxy.reply(Reply::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    let url = "http://sentry.invalid:9000/api/42/envelope/";
    let through = format!("http://user:p%40ss@{}", proxy.address());
    let mut http = Http::new(HttpOptions::new(url, AUTH).proxy(through)).unwrap();
    assert_eq!(status(&mut http), Some(200));
    assert_eq!(status(&mut http), Some(200));
    let requests = proxy.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!((&*requests[0].method, &*requests[0].target), ("CONNECT", "sentry.invalid:9000"));
    // user:p@ss
    assert_eq!(requests[0].header("proxy-authorization"), Some("Basic dXNlcjpwQHNz"));
    assert_eq!(requests[0].header("x-sentry-auth"), None);
    assert_eq!(requests[1].header("x-sentry-auth"), Some(AUTH));
    assert_eq!(requests[1].header("proxy-authorization"), None);
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn the_environment_is_left_alone() {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let output = again.args(["--exact", "what_arrives_is_what_was_written"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
