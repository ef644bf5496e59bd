//! `transport::Http` against a real server on loopback: what arrives, and what becomes of bad
//! answers.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and asks the real clock"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant, UNIX_EPOCH};

use hotspan::Compression;
use hotspan::transport::{
    EnvelopeBuf, Http, HttpOptions, Response, SendError, SendErrorKind, Transport,
};

mod support;
use support::server::{Reply, Server};

const AUTH: &str = "Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7, \
                    sentry_client=hotspan/0.0.0";

/// Far longer than anything here takes, far shorter than a hang.
const LONG: Duration = Duration::from_secs(40);

fn options(server: &Server) -> HttpOptions {
    HttpOptions::new(server.url(), AUTH).timeout(LONG).compression(Compression::Gzip)
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
fn every_compression_arrives() {
    let server = Server::start();
    for (compression, encoding) in [
        (Compression::None, None),
        // The server is on this machine.
        (Compression::Auto, None),
        (Compression::Gzip, Some("gzip")),
        #[cfg(feature = "zstd")]
        (Compression::Zstd, Some("zstd")),
    ] {
        let mut http = Http::new(options(&server).compression(compression)).unwrap();
        for bytes in [1, 2_000, 400_000] {
            let envelope = envelope(bytes);
            send(&mut http, &envelope).unwrap();
            let request = server.requests().pop().unwrap();
            assert!(request.unpacked() == envelope.as_envelope().as_bytes());
            let expected = encoding.filter(|_| bytes > 1024);
            assert_eq!(request.header("content-encoding"), expected, "{bytes}");
        }
        // Larger when packed: sent as it is.
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let noise = EnvelopeBuf::from_bytes(noise.take(20_000).collect::<Vec<_>>());
        send(&mut http, &noise).unwrap();
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("content-encoding"), None);
        assert!(request.body == noise.as_envelope().as_bytes());
    }
}

#[test]
#[cfg(not(feature = "zstd"))]
fn zstd_without_its_feature_is_refused() {
    let server = Server::start();
    let error = Http::new(options(&server).compression(Compression::Zstd)).unwrap_err();
    assert!(error.is_unsupported() && error.option() == "compression", "{error}");
}

#[test]
#[cfg(not(feature = "rustls"))]
fn https_without_tls_is_refused() {
    let refused = |options| Http::new(options).unwrap_err();
    let plain = || HttpOptions::new("http://host/", AUTH);
    for (option, error) in [
        ("url", refused(HttpOptions::new("https://host/", AUTH))),
        ("proxy", refused(plain().proxy("https://proxy"))),
        ("ca_certs", refused(plain().ca_certs("ca.pem"))),
    ] {
        assert!(error.is_unsupported() && error.option() == option, "{error}");
        assert!(error.to_string().contains("`rustls`"), "{error}");
    }
}

#[test]
fn clones_send_at_the_same_time_and_their_connections_are_kept() {
    const CLONES: usize = 4;
    let server = Server::start();
    let first = Http::new(options(&server).connections(CLONES)).unwrap();
    // All are under way at once: none is answered before the last has come.
    for _ in 0..CLONES {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        server.reply(Reply::After(CLONES, good.to_vec()));
    }
    let barrier = Barrier::new(CLONES);
    std::thread::scope(|scope| {
        for _ in 0..CLONES {
            let (mut http, barrier) = (first.clone(), &barrier);
            scope.spawn(move || {
                let envelope = envelope(3_000);
                assert_eq!(send(&mut http, &envelope).unwrap().status, 200);
                barrier.wait();
                for _ in 0..5 {
                    assert_eq!(send(&mut http, &envelope).unwrap().status, 200);
                }
            });
        }
    });
    let requests = server.requests();
    assert_eq!(requests.len(), 6 * CLONES);
    let whole = envelope(3_000);
    assert!(requests.iter().all(|one| one.unpacked() == whole.as_envelope().as_bytes()));
    // One for each that was under way, and none for the others.
    assert_eq!(server.connections(), CLONES);
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
fn what_the_server_says_is_wrong_is_told() {
    let server = Server::start();
    let mut http = http(&server);
    let json = |text: &str| format!("{{\"detail\":\"{text}\",\"causes\":[\"x\"]}}").into_bytes();
    let header = |text: &'static str| [("X-Sentry-Error", text)];
    let long = "é".repeat(3000);
    for (code, headers, body, expected) in [
        (403, &[][..], json(r#"bad \"key\""#), Some("bad \"key\"")),
        (400, &header("bad envelope"), json("other"), Some("bad envelope")),
        (413, &[], json("too\\u001b[2J\\nlarge"), Some("too [2J large")),
        (500, &[], json(&long), Some(&long[..400])),
        (503, &[], b"<html>overloaded</html>".to_vec(), None),
        (429, &[], Vec::new(), None),
        (302, &header("elsewhere"), Vec::new(), Some("elsewhere")),
        // Whatever it says of us is not for the log.
        (401, &[], json("no such key: 0123456789ABCDEF0123456789ABCDEF"), Some("***")),
        (401, &header(AUTH), Vec::new(), Some("***")),
        (200, &header("fine"), json("fine"), None),
    ] {
        server.reply(Reply::status(code, headers, &body));
        let response = send(&mut http, &envelope(100)).unwrap();
        assert_eq!((response.status, response.detail.as_deref()), (code, expected));
    }
    // A body of which the end does not come is told of as far as it came, and no more.
    let start =
        "HTTP/1.1 400 Bad\r\nContent-Length: 90000\r\n\r\n{\"detail\":\"first\",\"causes\":[";
    server.reply(Reply::Close(start.into()));
    assert_eq!(send(&mut http, &envelope(100)).unwrap().detail.as_deref(), Some("first"));
}

#[test]
fn headers_are_read_up_to_32_kib() {
    let server = Server::start();
    let mut http = http(&server);
    let answer = |bytes: usize| {
        let line = format!("X-Filler: {}\r\n", "x".repeat(1000 - 12));
        let lines = line.repeat(bytes / 1000);
        Reply::Close(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").into())
    };
    server.reply(answer(31_000));
    assert_eq!(send(&mut http, &envelope(100)).unwrap().status, 200);
    server.reply(answer(40_000));
    let error = send(&mut http, &envelope(100)).unwrap_err().to_string();
    assert!(error.contains("header"), "{error}");
}

#[test]
fn the_servers_clock_is_read() {
    let server = Server::start();
    let mut http = http(&server);
    for (date, expected) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
        ("yesterday", None),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
    ] {
        server.reply(Reply::status(200, &[("Date", date)], b"{}"));
        let response = send(&mut http, &envelope(100)).unwrap();
        let expected = expected.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(response.date, expected, "{date}");
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
    io::Write::write_all(&mut packer, &vec![0; 40 << 20]).unwrap();
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
        let error = send(&mut http, &envelope(100)).unwrap_err();
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert!(error.kind() == SendErrorKind::Timeout && error.is_timeout(), "{error:?}");
        let error = error.to_string();
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
#[cfg(unix)]
fn a_connection_that_the_server_reset_meanwhile_is_replaced() {
    let server = Server::start();
    let mut http = http(&server);
    for round in 1..4 {
        server.reply(Reply::Reset(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()));
        assert_eq!(status(&mut http), Some(200));
        server.wait_for_closed(round);
    }
    assert_eq!(server.connections(), 3);
    assert_eq!(server.requests().len(), 3);
}

/// The server has the request, and closes: as if it had closed just before that came.
#[test]
fn a_connection_that_is_closed_at_the_last_moment_costs_nothing() {
    let server = Server::start();
    let mut http = http(&server);
    let closing = [
        Reply::Close(Vec::new()),
        #[cfg(unix)]
        Reply::Reset(Vec::new()),
    ];
    for (round, close) in closing.into_iter().enumerate() {
        assert_eq!(status(&mut http), Some(200));
        let before = server.requests().len();
        server.reply(close);
        let envelope = envelope(5_000);
        assert_eq!(send(&mut http, &envelope).unwrap().status, 200);
        let requests = server.requests();
        let sent: Vec<_> = requests[before..].iter().map(|one| one.unpacked()).collect();
        assert!(sent == [envelope.as_envelope().as_bytes(); 2], "twice the same");
        assert_eq!(server.connections(), round + 2);
    }
}

/// Another connection that is idle may be as dead.
#[test]
fn what_is_sent_again_goes_over_a_new_connection() {
    let server = Server::start();
    let mut http = Http::new(options(&server).connections(2)).unwrap();
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    std::thread::scope(|scope| {
        for _ in 0..2 {
            server.reply(Reply::After(2, good.to_vec()));
            let mut clone = http.clone();
            scope.spawn(move || assert_eq!(status(&mut clone), Some(200)));
        }
    });
    assert_eq!(server.connections(), 2);
    server.reply(Reply::Close(Vec::new()));
    assert_eq!(status(&mut http), Some(200));
    assert_eq!(server.connections(), 3);
}

#[test]
fn nothing_is_sent_again_on_a_new_connection_nor_after_a_word_nor_twice() {
    let sent = |prepare: &[Reply]| {
        let server = Server::start();
        let timeout = Duration::from_millis(200);
        let mut http = Http::new(options(&server).timeout(timeout)).unwrap();
        prepare.iter().for_each(|reply| server.reply(reply.clone()));
        for _ in 1..prepare.len() {
            assert_eq!(status(&mut http), Some(200));
        }
        let error = send(&mut http, &envelope(100)).unwrap_err();
        (server.requests().len(), error.kind())
    };
    let good = Reply::status(200, &[], b"{}");
    let close = Reply::Close(Vec::new());
    assert_eq!(sent(std::slice::from_ref(&close)), (1, SendErrorKind::Broken));
    let word = Reply::Close(b"HTTP/1.1 2".to_vec());
    assert_eq!(sent(&[good.clone(), word]), (2, SendErrorKind::Broken));
    assert_eq!(sent(&[good.clone(), Reply::Hang]), (2, SendErrorKind::Timeout));

    let server = Server::start();
    let mut http = http(&server);
    assert_eq!(status(&mut http), Some(200));
    server.reply(close.clone());
    server.reply(close);
    assert_eq!(status(&mut http), None);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn nobody_there_is_an_error_without_a_secret() {
    let url = Server::start().url();
    let mut http = Http::new(HttpOptions::new(url, AUTH)).unwrap();
    let error = send(&mut http, &envelope(100)).unwrap_err();
    assert!(error.kind() == SendErrorKind::Connect && !error.is_timeout(), "{error:?}");
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
fn every_clone_is_broken_off_by_the_interrupter_of_one() {
    let server = Server::start();
    let first = http(&server);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sending: Vec<_> = (0..3)
            .map(|_| {
                server.reply(Reply::Hang);
                let mut http = first.clone();
                scope.spawn(move || status(&mut http))
            })
            .collect();
        server.wait_for_requests(3);
        first.clone().interrupter().unwrap()();
        for one in sending {
            assert_eq!(one.join().unwrap(), None);
        }
    });
    assert!(start.elapsed() < LONG / 2);
    assert_eq!(status(&mut first.clone()), None, "nothing is sent afterwards");
    assert_eq!(server.requests().len(), 3);
}

/// A look-up that hangs until it is told an address; and how many there were.
struct Hanging {
    release: mpsc::Sender<SocketAddr>,
    questions: Arc<AtomicUsize>,
}

/// A transport for a name that is looked up so.
fn hanging(server: &Server, connect_timeout: Duration) -> (Http, Hanging) {
    let (release, answers) = mpsc::channel();
    let (answers, questions) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&questions);
    let lookup = move |host: &str, _| {
        assert_eq!(host, "sentry.invalid");
        count.fetch_add(1, Ordering::SeqCst);
        let answer = answers.lock().unwrap().recv();
        answer.map(|address| vec![address]).map_err(io::Error::other)
    };
    let url = server.url().replace("127.0.0.1", "sentry.invalid");
    let options = HttpOptions::new(url, AUTH).timeout(LONG).connect_timeout(connect_timeout);
    (Http::new(options.lookup(Arc::new(lookup))).unwrap(), Hanging { release, questions })
}

#[test]
fn a_look_up_that_hangs_is_left_in_time_and_used_when_it_comes() {
    let server = Server::start();
    let timeout = Duration::from_millis(50);
    let (mut http, hanging) = hanging(&server, timeout);
    for _ in 0..3 {
        let start = Instant::now();
        let error = send(&mut http.clone(), &envelope(100)).unwrap_err();
        assert!(start.elapsed() >= timeout && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert!(error.kind() == SendErrorKind::Resolve && error.is_timeout(), "{error:?}");
    }
    hanging.release.send(server.address()).unwrap();
    let start = Instant::now();
    while status(&mut http) != Some(200) {
        assert!(start.elapsed() < LONG);
    }
    assert_eq!(hanging.questions.load(Ordering::SeqCst), 1);
}

#[test]
fn who_waits_for_a_name_is_broken_off_too() {
    let server = Server::start();
    let (mut http, hanging) = hanging(&server, LONG);
    let interrupt = http.interrupter().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| status(&mut http));
        while hanging.questions.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        interrupt();
        assert_eq!(sending.join().unwrap(), None);
    });
    assert!(start.elapsed() < LONG / 2);
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_name_that_does_not_exist_is_an_error() {
    // A label of more than 63 characters: nobody has to be asked.
    let url = format!("http://{}.invalid/api/1/envelope/", "x".repeat(64));
    let mut http = Http::new(HttpOptions::new(url, AUTH)).unwrap();
    let error = send(&mut http, &envelope(100)).unwrap_err();
    assert!(error.kind() == SendErrorKind::Resolve && !error.is_timeout(), "{error:?}");
}

#[test]
fn an_old_address_is_used_while_the_name_cannot_be_resolved() {
    let server = Server::start();
    let (address, questions) = (server.address(), AtomicUsize::new(0));
    let lookup = move |_: &str, _| match questions.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(vec![address]),
        _ => Err(io::Error::other("out of order")),
    };
    let url = server.url().replace("127.0.0.1", "sentry.invalid");
    let timeout = Duration::from_millis(200);
    let options = HttpOptions::new(url, AUTH).timeout(timeout).lookup(Arc::new(lookup));
    let mut http = Http::new(options).unwrap();
    assert_eq!(status(&mut http), Some(200));
    server.reply(Reply::Hang);
    assert_eq!(status(&mut http), None);
    assert_eq!(status(&mut http), Some(200));
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
fn a_proxy_that_refuses_or_is_not_there_is_named() {
    let proxy = Server::start();
    let through = |proxy: SocketAddr| {
        let options = HttpOptions::new("http://sentry.invalid/api/42/envelope/", AUTH);
        let mut http = Http::new(options.proxy(format!("http://user:p4ss@{proxy}"))).unwrap();
        let error = send(&mut http, &envelope(100)).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("p4ss") && !text.contains("0123456789abcdef"), "{text}");
        }
        error.kind()
    };
    proxy.reply(Reply::status(407, &[], b"who are you?"));
    assert_eq!(through(proxy.address()), SendErrorKind::Proxy);
    let nobody = Server::start().address();
    assert_eq!(through(nobody), SendErrorKind::Proxy);
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
