//! `transport::Http` over HTTP/2, against a real server on loopback: many envelopes at a time, what
//! becomes of each, and what a server may do to all of them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and asks the real clock"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use h2::Reason;
use hotspan::transport::{
    EnvelopeBuf, Http, HttpOptions, Response, SendError, SendErrorKind, Transport,
};
use hotspan::{Compression, Config, Count, HttpVersion, start_child, start_transaction, stats};
use rustls::{ServerConnection, StreamOwned};

mod support;
use support::server::{Reply as Plain, Request, Server, read_head};
use support::streams::{Manners, Reply, Streams};
use support::tls::Authority;
use support::tunnel::tunnel;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const AUTH: &str = "Sentry sentry_key=0123456789abcdef0123456789abcdef, sentry_version=7";

/// Far longer than anything here takes, far shorter than a hang.
const LONG: Duration = Duration::from_secs(40);

/// Long enough for what is to be answered, short enough to wait for what is not.
const SHORT: Duration = Duration::from_secs(2);

type Answer = Result<Response, SendError>;

fn options(url: String) -> HttpOptions {
    HttpOptions::new(url, AUTH).timeout(LONG).version(HttpVersion::Http2)
}

fn http(server: &Streams) -> Http {
    Http::new(options(server.url())).unwrap()
}

fn impatient(server: &Streams) -> Http {
    Http::new(options(server.url()).timeout(SHORT)).unwrap()
}

/// The text of one that can be told from all others.
fn text(number: usize, bytes: usize) -> String {
    let mut text = format!("{{}}\n{{\"type\":\"transaction\"}}\n{{\"n\":{number},\"x\":\"");
    let missing = bytes.saturating_sub(text.len());
    text.extend(('a'..='z').cycle().take(missing));
    text + "\"}\n"
}

fn lot(count: usize, bytes: usize) -> Vec<EnvelopeBuf> {
    (0..count).map(|number| EnvelopeBuf::from_bytes(text(number, bytes))).collect()
}

/// What is said of each; panics if something is said of one twice, or not at all.
fn send_all(http: &mut Http, lot: &[EnvelopeBuf]) -> Vec<Answer> {
    let envelopes: Vec<_> = lot.iter().map(EnvelopeBuf::as_envelope).collect();
    let mut answers = BTreeMap::new();
    http.send_all(&envelopes, &mut |place, answer| {
        assert!(answers.insert(place, answer).is_none(), "{place} twice");
    });
    assert!(answers.keys().copied().eq(0..lot.len()), "{:?}", answers.keys());
    answers.into_values().collect()
}

fn statuses(answers: &[Answer]) -> Vec<Option<u16>> {
    answers.iter().map(|answer| answer.as_ref().ok().map(|response| response.status)).collect()
}

/// Each of them arrived, and none twice.
fn arrived_once(server: &Streams, lot: &[EnvelopeBuf]) -> bool {
    let mut bodies: Vec<_> = server.requests().iter().map(|one| one.unpacked()).collect();
    let mut expected: Vec<_> =
        lot.iter().map(|one| one.as_envelope().as_bytes().to_vec()).collect();
    bodies.sort();
    expected.sort();
    bodies == expected
}

#[test]
fn what_arrives_is_what_was_written() {
    let server = Streams::good();
    let options = options(server.url());
    for compression in [Compression::Auto, Compression::Gzip] {
        let mut http = Http::new(options.clone().compression(compression)).unwrap();
        for bytes in [1, 900, 20_000, 1_000_000] {
            let envelope = EnvelopeBuf::from_bytes(text(7, bytes));
            let response = http.send(&envelope.as_envelope()).unwrap();
            assert_eq!(response, Response::status(200));
            let request = server.requests().pop().unwrap();
            assert_eq!((&*request.method, &*request.target), ("POST", &*server.url()));
            assert!(request.unpacked() == envelope.as_envelope().as_bytes());
            let packed = request.header("content-encoding") == Some("gzip");
            assert_eq!(packed, bytes > 1024 && compression == Compression::Gzip);
            assert_eq!(request.header("x-sentry-auth"), Some(AUTH));
            assert_eq!(request.header("content-type"), Some("application/x-sentry-envelope"));
            let agent = concat!("hotspan/", env!("CARGO_PKG_VERSION"));
            assert_eq!(request.header("user-agent"), Some(agent));
            assert_eq!(request.body_length(), request.body.len());
        }
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_lot_is_under_way_at_once() {
    // None is answered before all have come.
    let server = Streams::start(Manners::default(), |_| Reply::After(64));
    let mut http = http(&server);
    assert_eq!(http.at_once(), 64);
    let lot = lot(64, 3_000);
    assert_eq!(statuses(&send_all(&mut http, &lot)), [Some(200); 64]);
    assert!(arrived_once(&server, &lot));
    assert_eq!(server.connections(), 1);
}

#[test]
fn one_connection_serves_many_lots() {
    let server = Streams::good();
    let mut http = http(&server);
    for size in [1, 64, 3, 0, 17] {
        assert_eq!(statuses(&send_all(&mut http, &lot(size, 9_000))), vec![Some(200); size]);
    }
    assert_eq!((server.requests().len(), server.connections()), (85, 1));
    let mut clone = http.clone();
    send_all(&mut clone, &lot(1, 1));
    assert_eq!(server.connections(), 2, "a clone has its own");
}

#[test]
fn a_server_may_want_fewer_at_a_time_and_smaller_pieces() {
    for (streams, window) in [(1, None), (3, Some(1_000)), (100, Some(1)), (200, Some(1 << 20))] {
        let manners = Manners { streams: Some(streams), window, ..Manners::default() };
        let server = Streams::start(manners, |_| Reply::status(200));
        let bytes = if window == Some(1) { 60 } else { 20_000 };
        let lot = lot(20, bytes);
        let answers = send_all(&mut http(&server), &lot);
        assert_eq!(statuses(&answers), [Some(200); 20], "{streams} {window:?}");
        assert!(arrived_once(&server, &lot));
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn each_gets_its_own_answer() {
    let server = Streams::start(Manners::default(), |number| {
        let limit = ("x-sentry-rate-limits", format!("{number}:span:key"));
        let json = |text: &str| format!("{{\"detail\":\"{text}\"}}").into_bytes();
        match number % 5 {
            0 => Reply::status(200),
            1 => Reply::Answer(429, vec![limit, ("retry-after", "7".into())], Vec::new()),
            2 => Reply::Answer(400, vec![], json("bad envelope")),
            3 => Reply::Answer(403, vec![("x-sentry-error", "no".into())], json("other")),
            _ => Reply::Answer(401, vec![], json(&format!("no such key: {KEY}"))),
        }
    });
    let answers = send_all(&mut http(&server), &lot(20, 100));
    // Streams are opened in order, and the server numbers them as they come.
    for (number, answer) in answers.iter().enumerate() {
        let response = answer.as_ref().unwrap();
        let detail = response.detail.as_deref();
        let limits = response.rate_limits.as_deref();
        match number % 5 {
            0 => assert_eq!(*response, Response::status(200)),
            1 => {
                assert_eq!(limits, Some(&*format!("{number}:span:key")));
                assert_eq!((response.retry_after.as_deref(), detail), (Some("7"), None));
            }
            2 => assert_eq!((response.status, detail), (400, Some("bad envelope"))),
            3 => assert_eq!((response.status, detail), (403, Some("no"))),
            _ => assert_eq!((response.status, detail), (401, Some("***"))),
        }
    }
}

#[test]
fn what_is_refused_is_sent_again_once() {
    let server = Streams::start(Manners::default(), |number| match number {
        3 | 8 => Reply::Reset(Reason::REFUSED_STREAM),
        _ => Reply::status(200),
    });
    let lot = lot(10, 2_000);
    assert_eq!(statuses(&send_all(&mut http(&server), &lot)), [Some(200); 10]);
    assert!(arrived_once(&server, &lot));
    assert_eq!(server.connections(), 2);

    let server = Streams::start(Manners::default(), |_| Reply::Reset(Reason::REFUSED_STREAM));
    let answers = send_all(&mut http(&server), &lot);
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Broken);
        assert!(error.to_string().contains("HTTP/2"), "{error}");
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn what_may_have_been_taken_is_not_sent_again() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
        let server = Streams::start(Manners::default(), move |number| match number {
            2 => Reply::Reset(reason),
            _ => Reply::status(200),
        });
        let answers = send_all(&mut http(&server), &lot(4, 100));
        assert_eq!(statuses(&answers), [Some(200), Some(200), None, Some(200)]);
        assert_eq!(server.connections(), 1, "{reason:?}");
    }
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    // The first request on a used connection finds it closed.
    let server = Streams::start(Manners::default(), |number| match number {
        5 => Reply::Close,
        _ => Reply::status(200),
    });
    let mut http = http(&server);
    let first = lot(5, 100);
    assert_eq!(statuses(&send_all(&mut http, &first)), [Some(200); 5]);
    assert_eq!(statuses(&send_all(&mut http, &lot(4, 100))), [Some(200); 4]);
    assert_eq!((server.requests().len(), server.connections()), (9, 2));
}

#[test]
fn nothing_is_sent_again_on_a_new_connection_nor_after_a_word_nor_twice() {
    let server = Streams::start(Manners::default(), |_| Reply::Close);
    assert_eq!(statuses(&send_all(&mut http(&server), &lot(3, 100))), [None; 3]);
    assert_eq!(server.connections(), 1, "it was new");

    // An old one, on which the first of the lot was answered before it was closed.
    let answered = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&answered);
    let server =
        Streams::start(Manners { streams: Some(1), ..Manners::default() }, move |number| {
            heard.store(number, Ordering::SeqCst);
            if number == 2 { Reply::Close } else { Reply::status(200) }
        });
    let mut client = http(&server);
    send_all(&mut client, &lot(1, 100));
    let answers = send_all(&mut client, &lot(2, 100));
    assert_eq!(statuses(&answers), [Some(200), None]);
    assert_eq!((server.connections(), answered.load(Ordering::SeqCst)), (1, 2));

    let server = Streams::start(Manners::default(), |number| match number {
        0 => Reply::status(200),
        _ => Reply::Close,
    });
    let mut client = http(&server);
    send_all(&mut client, &lot(1, 100));
    assert_eq!(statuses(&send_all(&mut client, &lot(1, 100))), [None]);
    assert_eq!(server.connections(), 2, "once");
}

#[test]
fn a_server_that_says_farewell_loses_nothing() {
    // As servers do that let so many requests over a connection.
    let server = Streams::start(Manners::default(), |number| match number % 10 {
        9 => Reply::Farewell,
        _ => Reply::status(200),
    });
    let mut http = http(&server);
    let mut all = Vec::new();
    for _ in 0..30 {
        let lot = lot(7, 500);
        assert_eq!(statuses(&send_all(&mut http, &lot)), [Some(200); 7]);
        all.extend(lot);
    }
    assert!(arrived_once(&server, &all));
    assert!((2..=40).contains(&server.connections()), "{}", server.connections());
}

#[test]
fn what_is_not_answered_in_time_does_not_take_the_others_along() {
    let server = Streams::start(Manners::default(), |number| match number {
        1 => Reply::Hang,
        _ => Reply::status(200),
    });
    let mut http = impatient(&server);
    let begun = Instant::now();
    let answers = send_all(&mut http, &lot(4, 100));
    assert_eq!(statuses(&answers), [Some(200), None, Some(200), Some(200)]);
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
    let error = answers[1].as_ref().unwrap_err();
    assert!(error.kind() == SendErrorKind::Timeout && error.is_timeout(), "{error:?}");
    assert_eq!(statuses(&send_all(&mut http, &lot(2, 100))), [Some(200); 2]);
    assert_eq!(server.connections(), 2, "the time was up");
}

#[test]
fn the_status_decides_whatever_becomes_of_the_body() {
    let server = Streams::start(Manners::default(), |number| match number % 4 {
        0 => Reply::Endless(200),
        1 => Reply::Endless(500),
        2 => Reply::Mute(503),
        _ => Reply::Mute(200),
    });
    let mut http = http(&server);
    let begun = Instant::now();
    let answers = send_all(&mut http, &lot(8, 100));
    let expected = [200, 500, 503, 200].map(Some).repeat(2);
    assert_eq!(statuses(&answers), expected);
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[test]
fn headers_that_are_too_large_are_an_error_and_no_more() {
    let server = Streams::start(Manners::default(), |number| match number {
        1 => Reply::Answer(200, vec![("x-filler", "x".repeat(40_000))], Vec::new()),
        _ => Reply::status(200),
    });
    let answers = send_all(&mut http(&server), &lot(3, 100));
    assert_eq!(statuses(&answers)[0], Some(200));
    assert_eq!(statuses(&answers)[1], None);
}

#[test]
fn who_does_not_speak_it_gets_nothing() {
    let server = Server::start();
    server.reply(Plain::status(505, &[], b"HTTP/1.1, please"));
    let mut http = Http::new(options(server.url()).connect_timeout(SHORT)).unwrap();
    let answers = send_all(&mut http, &lot(3, 100));
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(!error.to_string().contains(KEY), "{error}");
    }
    assert!(server.requests().iter().all(|request| request.body.is_empty()));
}

#[test]
fn nobody_there_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut http = Http::new(options(format!("http://{address}/api/1/envelope/"))).unwrap();
    for answer in send_all(&mut http, &lot(2, 100)) {
        assert_eq!(answer.unwrap_err().kind(), SendErrorKind::Connect);
    }
}

#[test]
fn a_lot_can_be_broken_off_from_another_thread() {
    let server = Streams::start(Manners::default(), |_| Reply::Hang);
    let mut http = http(&server);
    let interrupt = http.interrupter().unwrap();
    let begun = Instant::now();
    thread::scope(|scope| {
        let sending = scope.spawn(|| send_all(&mut http, &lot(3, 100)));
        while server.requests().len() < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        interrupt();
        assert_eq!(statuses(&sending.join().unwrap()), [None; 3]);
    });
    assert_eq!(statuses(&send_all(&mut http, &lot(2, 100))), [None; 2], "nor does another begin");
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert_eq!(server.connections(), 1);
}

/// A server behind TLS that offers these protocols.
fn behind_tls(authority: &Authority, protocols: &[&[u8]]) -> (Streams, HttpOptions) {
    let mut config = (*authority.config(|_| {})).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let manners = Manners { tls: Some(Arc::new(config)), ..Manners::default() };
    let server = Streams::start(manners, |_| Reply::status(200));
    let url = format!("https://localhost:{}/api/42/envelope/", server.address().port());
    let options = options(url).ca_certs(authority.file());
    (server, options)
}

#[test]
fn behind_tls_it_is_agreed_on() {
    let authority = Authority::new();
    let (server, options) = behind_tls(&authority, &[b"h2", b"http/1.1"]);
    let mut http = Http::new(options.clone()).unwrap();
    for _ in 0..3 {
        let lot = lot(30, 20_000);
        assert_eq!(statuses(&send_all(&mut http, &lot)), [Some(200); 30]);
    }
    assert_eq!((server.requests().len(), server.connections()), (90, 1));
    assert_eq!(server.requests()[0].header("content-encoding"), None, "to this machine");

    let other = Authority::new();
    let mut stranger = Http::new(options.ca_certs(other.file())).unwrap();
    let error = send_all(&mut stranger, &lot(1, 1)).remove(0).unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Tls, "{error}");
}

/// Answers 200 to every request over HTTP/1.1 behind TLS, on any number of connections, but to none
/// with a longer body than that; says how many connections and requests there were.
fn old_fashioned(
    authority: &Authority,
    protocols: &[&[u8]],
    longest: usize,
) -> (u16, Arc<[AtomicUsize; 2]>) {
    let mut config = (*authority.config(|_| {})).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let counted = Arc::clone(&counts);
    let serve = move |stream: TcpStream| -> std::io::Result<()> {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(session, stream));
        while let Some(head) = read_head(&mut reader, 0)? {
            std::io::copy(
                &mut (&mut reader).take(head.body_length() as u64),
                &mut std::io::sink(),
            )?;
            counted[1].fetch_add(1, Ordering::SeqCst);
            if head.body_length() > longest {
                // Until the client goes.
                return std::io::copy(&mut reader, &mut std::io::sink()).map(drop);
            }
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
        }
        Ok(())
    };
    let connections = Arc::clone(&counts);
    // Ends with the process.
    let accept = move || {
        for stream in listener.incoming() {
            connections[0].fetch_add(1, Ordering::SeqCst);
            // An error is the client's going away.
            let _ = serve(stream.unwrap());
        }
    };
    thread::Builder::new().spawn(accept).unwrap();
    (port, counts)
}

#[test]
fn a_server_that_chooses_http_1_1_gets_that_and_is_not_asked_again() {
    let authority = Authority::new();
    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let (port, counts) = old_fashioned(&authority, protocols, usize::MAX);
        let url = format!("https://localhost:{port}/api/42/envelope/");
        let mut http = Http::new(options(url).ca_certs(authority.file())).unwrap();
        assert_eq!(http.at_once(), 64);
        for _ in 0..2 {
            assert_eq!(statuses(&send_all(&mut http, &lot(5, 2_000))), [Some(200); 5]);
            assert_eq!((http.at_once(), http.clone().at_once()), (1, 1));
        }
        // One to ask, and one that was kept.
        let [connections, requests] = [0, 1].map(|of| counts[of].load(Ordering::SeqCst));
        assert_eq!((connections, requests), (2, 10), "{protocols:?}");
    }
}

#[test]
fn a_lot_that_goes_over_http_1_1_takes_no_longer_than_one() {
    let authority = Authority::new();
    let (port, counts) = old_fashioned(&authority, &[b"http/1.1"], 500);
    let url = format!("https://localhost:{port}/api/42/envelope/");
    let options = options(url).ca_certs(authority.file()).timeout(SHORT);
    let begun = Instant::now();
    let answers = send_all(&mut Http::new(options).unwrap(), &lot(9, 1_000));
    assert!(begun.elapsed() < 2 * SHORT + LONG / 4, "{:?}", begun.elapsed());
    for answer in answers {
        assert!(answer.unwrap_err().is_timeout());
    }
    assert!(counts[1].load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_proxy_is_gone_through() {
    let server = Streams::good();
    let proxy = |host| format!("http://{}", tunnel(server.address(), host));
    let mut http = Http::new(options(server.url()).proxy(proxy("127.0.0.1"))).unwrap();
    assert_eq!(statuses(&send_all(&mut http, &lot(9, 3_000))), [Some(200); 9]);
    assert_eq!(server.requests()[0].header("content-encoding"), Some("gzip"), "it leaves");
    assert_eq!(server.connections(), 1);

    let authority = Authority::new();
    let (server, options) = behind_tls(&authority, &[b"h2"]);
    let proxy = format!("http://{}", tunnel(server.address(), "localhost"));
    let mut http = Http::new(options.proxy(proxy)).unwrap();
    assert_eq!(statuses(&send_all(&mut http, &lot(9, 3_000))), [Some(200); 9]);
    assert_eq!((server.requests().len(), server.connections()), (9, 1));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Streams::good();
    let mut http =
        Http::new(self::options(server.url()).proxy(format!("http://{nobody}"))).unwrap();
    for answer in send_all(&mut http, &lot(2, 100)) {
        assert_eq!(answer.unwrap_err().kind(), SendErrorKind::Proxy);
    }
}

/// Frames, or what looks like some.
fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

const SETTINGS: u8 = 4;

/// A server that takes everything, and says this: settings, so that it is believed, then `first` once
/// a request has come, then `rest` for ever.
fn babble(first: Vec<u8>, rest: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |mut stream: TcpStream| -> std::io::Result<()> {
        let mut taken = stream.try_clone()?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        // The preface and settings; the request comes behind them.
        taken.read_exact(&mut [0; 200])?;
        let sink = move || std::io::copy(&mut taken, &mut std::io::sink());
        let sink = thread::Builder::new().spawn(sink)?;
        stream.write_all(&first)?;
        while !rest.is_empty() {
            stream.write_all(&rest)?;
        }
        drop(sink.join());
        Ok(())
    };
    // Ends with the process.
    let accept = move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            // An error is the client's going away.
            thread::Builder::new().spawn(move || serve(stream.unwrap())).unwrap();
        }
    };
    thread::Builder::new().spawn(accept).unwrap();
    address
}

/// Whatever comes, each envelope is spoken of once, in time.
#[track_caller]
fn survives(server: SocketAddr, timeout: Duration) -> Vec<Answer> {
    let url = format!("http://{server}/api/42/envelope/");
    let mut http = Http::new(options(url).timeout(timeout)).unwrap();
    let begun = Instant::now();
    let answers = send_all(&mut http, &lot(5, 500));
    assert!(begun.elapsed() < timeout + LONG / 4, "{:?}", begun.elapsed());
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        let text = format!("{error} {error:?}");
        assert!(text.len() < 1000 && !text.contains(KEY), "{text}");
    }
    answers
}

#[test]
fn a_server_that_never_stops_talking_is_left_in_time() {
    const PING: u8 = 6;
    let headers = |flags| frame(1, flags, 1, &[0x88]);
    for (first, rest) in [
        (vec![], frame(SETTINGS, 0, 0, &[])),
        (vec![], frame(PING, 0, 0, &[7; 8])),
        // A window that grows beyond all bounds, and one that does not.
        (vec![], frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        (vec![], frame(8, 0, 1, &1_u32.to_be_bytes())),
        // Headers without an end; data without any; frames that nobody knows.
        (headers(0), frame(9, 0, 1, &[])),
        (headers(4), frame(0, 0, 1, &[])),
        (headers(4), frame(0, 0, 1, &[0; 900])),
        (vec![], frame(0xfa, 0xff, 3, &[1; 50])),
        (vec![], vec![0; 4096]),
    ] {
        survives(babble(first, rest), SHORT);
    }
    // What it says along with its farewell is not repeated; what it says it will answer is waited for.
    let farewell = [&3_u32.to_be_bytes()[..], &2_u32.to_be_bytes(), KEY.as_bytes()].concat();
    let answers = survives(babble(frame(7, 0, 0, &farewell), vec![]), SHORT);
    assert_eq!(statuses(&answers), [None; 5]);
}

#[test]
fn nonsense_is_an_error_and_no_more() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..20) {
            // Half of it is well-formed, and of streams that are open.
            let payload: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
            let id = random.u32(0..12);
            bytes.extend(frame(random.u8(0..11), random.u8(..) & random.u8(..), id, &payload));
            if random.bool() {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(0..8);
            }
        }
        survives(babble(bytes, vec![]), Duration::from_millis(100));
    }
}

/// The server's side of a connection, frame by frame.
struct Raw {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

/// A status without a body.
fn answer(id: u32) -> Vec<u8> {
    frame(1, 5, id, &[0x88])
}

fn goaway(last: u32, reason: Reason) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat())
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

impl Raw {
    /// Takes connections, and does this with each, by its number; they are counted. Ends with the
    /// process.
    fn serve(
        each: impl Fn(usize, Raw) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/42/envelope/", listener.local_addr().unwrap());
        let count = Arc::<AtomicUsize>::default();
        let (counted, each) = (Arc::clone(&count), Arc::new(each));
        let accept = move || {
            for stream in listener.incoming() {
                let (stream, each) = (stream.unwrap(), Arc::clone(&each));
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let reader = BufReader::new(stream.try_clone().unwrap());
                // An error is the client's going away.
                thread::Builder::new().spawn(move || each(number, Raw { reader, stream })).unwrap();
            }
        };
        thread::Builder::new().spawn(accept).unwrap();
        (url, count)
    }

    /// Says its settings and that the connection has a wide window, and takes the client's preface.
    fn begin(&mut self, settings: &[u8]) -> std::io::Result<()> {
        self.say(&frame(SETTINGS, 0, 0, settings))?;
        self.say(&frame(8, 0, 0, &(1_u32 << 28).to_be_bytes()))?;
        self.reader.read_exact(&mut [0; 24])
    }

    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame: type, flags and stream.
    fn hear(&mut self) -> std::io::Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        std::io::copy(&mut (&mut self.reader).take(length.into()), &mut std::io::sink())?;
        Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }

    /// Waits for so many whole requests; the stream of the last one.
    fn requests(&mut self, count: usize) -> std::io::Result<u32> {
        let mut last = 0;
        for _ in 0..count {
            last = loop {
                let (kind, flags, id) = self.hear()?;
                if kind == 0 && flags & 1 != 0 {
                    break id;
                }
            };
        }
        Ok(last)
    }

    /// 200 for each request, until the client goes.
    fn answer_all(&mut self) -> std::io::Result<()> {
        loop {
            let id = self.requests(1)?;
            self.say(&answer(id))?;
        }
    }
}

#[test]
fn what_is_sent_again_is_what_the_server_has_not_come_to() {
    const RST_STREAM: u8 = 3;
    const WINDOW_UPDATE: u8 = 8;
    let internal = u32::from(Reason::INTERNAL_ERROR).to_be_bytes();
    for (said, expected) in [
        (vec![], [true; 3]),
        // It may have taken all three, or the first.
        (goaway(7, Reason::NO_ERROR), [false; 3]),
        (goaway(3, Reason::NO_ERROR), [false, true, true]),
        (goaway(1, Reason::NO_ERROR), [true; 3]),
        // It wants to be left alone.
        (goaway(3, Reason::ENHANCE_YOUR_CALM), [false; 3]),
        (frame(RST_STREAM, 0, 3, &internal), [false; 3]),
        (frame(WINDOW_UPDATE, 0, 3, &1_u32.to_be_bytes()), [false; 3]),
    ] {
        let shown = format!("{said:?}");
        let (url, connections) = Raw::serve(move |number, mut raw| {
            raw.begin(&[])?;
            if number > 0 {
                return raw.answer_all();
            }
            let first = raw.requests(1)?;
            raw.say(&answer(first))?;
            // Streams 3, 5 and 7.
            raw.requests(3)?;
            raw.say(&said)?;
            raw.stream.shutdown(Shutdown::Both)
        });
        let mut http = Http::new(options(url)).unwrap();
        assert_eq!(statuses(&send_all(&mut http, &lot(1, 300))), [Some(200)]);
        let answers = statuses(&send_all(&mut http, &lot(3, 300)));
        assert_eq!(answers, expected.map(|is_sent| is_sent.then_some(200)), "{shown}");
        let expected = if expected.contains(&true) { 2 } else { 1 };
        assert_eq!(connections.load(Ordering::SeqCst), expected, "{shown}");
    }
}

#[test]
fn what_a_server_said_in_a_pause_is_no_answer_to_what_comes_after_it() {
    for last_words in [vec![], frame(8, 0, 0, &9_u32.to_be_bytes()), goaway(1, Reason::NO_ERROR)] {
        // The client has its answer; the server has gone.
        let steps = Arc::new([Barrier::new(2), Barrier::new(2)]);
        let taken = Arc::clone(&steps);
        let (url, connections) = Raw::serve(move |number, mut raw| {
            raw.begin(&[])?;
            if number > 0 {
                return raw.answer_all();
            }
            let first = raw.requests(1)?;
            raw.say(&answer(first))?;
            taken[0].wait();
            raw.say(&last_words)?;
            raw.stream.shutdown(Shutdown::Both)?;
            taken[1].wait();
            Ok(())
        });
        let mut http = Http::new(options(url)).unwrap();
        send_all(&mut http, &lot(1, 300));
        for step in steps.iter() {
            step.wait();
        }
        // A pause is what takes a tenth of a second.
        thread::sleep(Duration::from_millis(150));
        assert_eq!(statuses(&send_all(&mut http, &lot(3, 300))), [Some(200); 3]);
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn after_a_farewell_what_was_promised_is_waited_for_and_the_rest_goes_elsewhere() {
    let (url, connections) = Raw::serve(|number, mut raw| {
        // Two streams at a time, so that some wait.
        raw.begin(&setting(3, if number == 0 { 2 } else { 100 }))?;
        if number > 0 {
            return raw.answer_all();
        }
        raw.requests(2)?;
        raw.say(&goaway(3, Reason::NO_ERROR))?;
        for id in [1, 3] {
            thread::sleep(Duration::from_millis(50));
            raw.say(&answer(id))?;
        }
        raw.answer_all()
    });
    let answers = send_all(&mut Http::new(options(url)).unwrap(), &lot(6, 20_000));
    assert_eq!(statuses(&answers), [Some(200); 6]);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn an_answer_is_heard_though_writing_fails() {
    let again = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&again);
    let (url, _) = Raw::serve(move |number, mut raw| {
        raw.begin(&setting(4, 1 << 24))?;
        if number > 0 {
            while raw.requests(1).is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(());
        }
        let first = raw.requests(1)?;
        raw.say(&answer(first))?;
        // The first of the next lot, whole; then it goes, with more on its way.
        raw.requests(1)?;
        raw.say(&[answer(3), goaway(3, Reason::NO_ERROR)].concat())
    });
    let mut http = Http::new(options(url).timeout(SHORT * 2)).unwrap();
    assert_eq!(statuses(&send_all(&mut http, &lot(1, 300))), [Some(200)]);
    let answers = send_all(&mut http, &lot(20, 200_000));
    assert_eq!(statuses(&answers)[0], Some(200));
    assert!(again.load(Ordering::SeqCst) <= 19);
}

#[test]
fn what_an_early_answer_leaves_unsent_is_not_kept() {
    const ROUNDS: usize = 5;
    let resets = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&resets);
    // Nothing of a body is let in.
    let (url, _) = Raw::serve(move |_, mut raw| {
        raw.begin(&setting(4, 0))?;
        loop {
            match raw.hear()? {
                (1, _, id) => raw.say(&answer(id))?,
                (3, ..) => drop(counted.fetch_add(1, Ordering::SeqCst)),
                _ => {}
            }
        }
    });
    let mut http = Http::new(options(url)).unwrap();
    for _ in 0..ROUNDS {
        assert_eq!(statuses(&send_all(&mut http, &lot(64, 16_000))), [Some(200); 64]);
    }
    // The last ones go with the next lot.
    assert!(resets.load(Ordering::SeqCst) >= 64 * (ROUNDS - 1));
}

#[test]
fn errors_are_told_before_the_answers_that_come_after_them() {
    let server = Streams::start(Manners::default(), |number| match number {
        0 => Reply::Reset(Reason::INTERNAL_ERROR),
        _ => Reply::status(200),
    });
    let (lot, mut order) = (lot(4, 100), Vec::new());
    let envelopes: Vec<_> = lot.iter().map(EnvelopeBuf::as_envelope).collect();
    http(&server).send_all(&envelopes, &mut |place, answer| order.push((place, answer.is_ok())));
    assert_eq!(order, [(0, false), (1, true), (2, true), (3, true)]);
}

#[test]
fn a_server_that_reads_nothing_is_left_in_time() {
    let (url, _) = Raw::serve(|_, mut raw| {
        raw.say(&frame(SETTINGS, 0, 0, &setting(4, 1 << 28)))?;
        raw.say(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()))?;
        thread::sleep(LONG);
        Ok(())
    });
    let mut http = Http::new(options(url).timeout(SHORT)).unwrap();
    let begun = Instant::now();
    let answers = send_all(&mut http, &lot(64, 300_000));
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    assert_eq!(statuses(&answers), [None; 64]);
}

/// A byte now and then, for ever.
fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(&[0])?;
    }
}

#[test]
fn a_server_that_drips_is_left_in_time_behind_tls_too() {
    let authority = Authority::new();
    let url = |plain: String| plain.replace("http://127.0.0.1", "https://localhost");
    // A part of the handshake that is said to be long.
    let (plain, _) = Raw::serve(|_, mut raw| {
        raw.say(&[22, 3, 3, 0x3f, 0xff, 2, 0, 0x3f, 0xfb])?;
        drip(&mut raw.stream)
    });
    let begun = Instant::now();
    let options_of = |plain| options(url(plain)).ca_certs(authority.file());
    let slow = options_of(plain).connect_timeout(SHORT);
    for answer in send_all(&mut Http::new(slow).unwrap(), &lot(2, 300)) {
        assert_eq!(answer.unwrap_err().kind(), SendErrorKind::Connect);
    }
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());

    // A record that is, once the request is there.
    let mut config = (*authority.config(|_| {})).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let (plain, _) = Raw::serve(move |_, raw| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tls = StreamOwned::new(session, raw.stream);
        tls.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        tls.read_exact(&mut [0; 300])?;
        tls.sock.write_all(&[23, 3, 3, 0x3f, 0xff])?;
        drip(&mut tls.sock)
    });
    let begun = Instant::now();
    let answers = send_all(&mut Http::new(options_of(plain).timeout(SHORT)).unwrap(), &lot(2, 300));
    assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), SendErrorKind::Timeout);
    }
}

/// The whole way: from the loop to the server, with books that add up.
#[test]
fn what_is_recorded_arrives_and_the_books_are_exact() {
    const ITEMS: usize = 3_000;
    // Some are turned away, some are refused and come again.
    let server = Streams::start(Manners::default(), |number| match number % 100 {
        17 => Reply::Reset(Reason::REFUSED_STREAM),
        33 => Reply::status(400),
        66 => Reply::Farewell,
        _ => Reply::status(200),
    });
    let dsn = format!("http://{KEY}@{}/42", server.address());
    let config = Config {
        dsn: Some(dsn),
        http_version: HttpVersion::Http2,
        traces_sample_rate: Some(1.0),
        send_client_reports: false,
        queue_envelopes: 10_000,
        queue_bytes: 64 << 20,
        ..Config::default()
    };
    let guard = hotspan::init(config).unwrap();
    for number in 0..ITEMS {
        let mut transaction = start_transaction("queue.process", "orders");
        transaction.set_data("number", number as u64);
        drop(start_child("step", "usual"));
    }
    let report = guard.close(LONG);
    let after = stats();
    after.check().unwrap();
    assert_eq!(report.left, Count::default());
    assert_eq!(after.started.transactions, ITEMS as u64);
    // Each arrived, whatever it was answered with, and none twice.
    let requests = server.requests();
    let id = |request: &Request| request.body[..60].to_vec();
    let ids: BTreeSet<_> = requests.iter().map(id).collect();
    let lost: u64 = after.dropped.values().map(|count| count.transactions).sum();
    assert_eq!((ids.len(), requests.len()), (ITEMS, ITEMS));
    let turned_away = after.dropped.get(&hotspan::Reason::SendError).unwrap().transactions;
    assert!(lost == turned_away && turned_away >= 29, "{after}");
    assert_eq!(after.delivered.transactions, ITEMS as u64 - lost);
    // Of a lot at a time.
    assert!(server.connections() < 200, "{}", server.connections());
}
