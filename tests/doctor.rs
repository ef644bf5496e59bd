//! The doctor as a person calls him: the binary, a server in each of its moods, and what he says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

mod support;
use support::faults::{FaultServer, KEY, Mode};

/// The example's binary, built in the profile of this test: `cargo test --test doctor` alone would
/// leave an old one, or none.
fn binary() -> &'static Path {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BINARY.get_or_init(|| support::process::example("doctor"));
    built.as_deref().unwrap()
}

/// What he says about a DSN, with nothing of this process's environment that would change it.
fn ask(dsn: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    for variable in [
        "SENTRY_DSN",
        "SENTRY_RELEASE",
        "SENTRY_ENVIRONMENT",
        "SSL_CERT_FILE",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "no_proxy",
        "NO_PROXY",
    ] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied()).args(arguments).stdin(Stdio::null());
    let output = command.args(["--dsn", dsn]).output().unwrap();
    for text in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(text);
        // Nor a part of one.
        assert!(!text.contains(&KEY[..8]) && !text.contains("p4ss"), "a secret: {text}");
    }
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What he says, with this exit code.
fn expect(code: i32, output: &Output) -> String {
    let text = text(output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}{stderr}");
    text
}

/// That step failed, and no other before it; with these words.
fn expect_failed(server: &FaultServer, arguments: &[&str], step: &str, words: &[&str]) {
    let certs = server.ca_certs();
    let certs = certs.as_ref().map(|file| file.to_str().unwrap());
    let variables: Vec<_> = certs.iter().map(|file| ("SSL_CERT_FILE", *file)).collect();
    let said = expect(1, &ask(&server.dsn(), arguments, &variables));
    let first = said.lines().find(|line| line.contains(" failed ")).unwrap();
    assert!(first.trim_start().starts_with(step), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert!(!said.contains("All is well"), "{said}");
}

#[test]
fn all_is_well() {
    for server in [FaultServer::start(), FaultServer::start_tls()] {
        let certs = server.ca_certs();
        let mut arguments = Vec::new();
        if let Some(file) = &certs {
            arguments.extend(["--ca-certs", file.to_str().unwrap()]);
        }
        let said = expect(0, &ask(&server.dsn(), &arguments, &[]));
        for words in [
            "://***@",
            "no proxy",
            "the server ",
            "status 200",
            "within ",
            "none",
            "1 transaction with 2 spans delivered",
            "All is well.",
        ] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
        assert_eq!(said.contains("the certificate is believed"), certs.is_some(), "{said}");
        assert!(!said.contains("failed"), "{said}");
        let received = server.received();
        assert_eq!(received.accepted().transactions, 1, "the real thing");
        assert_eq!(received.accepted().spans, 2);
    }
}

#[test]
fn the_dsn_is_asked_of_the_environment_and_the_answer_can_be_json() {
    let server = FaultServer::start();
    let dsn = server.dsn();
    let mut command = Command::new(binary());
    command.env("SENTRY_DSN", &dsn).env("http_proxy", "").arg("--json").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said: Value = serde_json::from_str(&expect(0, &output)).unwrap();
    assert_eq!(said["ok"], true);
    let steps: Vec<_> = said["steps"].as_array().unwrap().iter().collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let all = ["dsn", "settings", "name", "connect", "answer", "clock", "limits", "delivery"];
    assert_eq!(names, all);
    assert!(steps.iter().all(|step| step["ok"] == true && step.get("advice").is_none()));

    server.set(Mode::Status(401));
    let said: Value = serde_json::from_str(&expect(1, &ask(&dsn, &["--json"], &[]))).unwrap();
    assert_eq!(said["ok"], false);
    let answer = said["steps"].as_array().unwrap().iter().find(|step| step["step"] == "answer");
    assert_eq!(answer.unwrap()["ok"], false);
    assert!(answer.unwrap()["advice"].as_str().unwrap().contains("copy the DSN anew"));
}

#[test]
fn what_is_no_dsn_is_not_repeated() {
    let secret = format!("http://{KEY}@localhost");
    for (dsn, words) in [
        (format!("{secret}/forty-two"), "the project id is not a number"),
        (format!("ftp://{KEY}@localhost/42"), "http"),
        (format!("{KEY}@localhost/42"), "DSN"),
        (format!("{secret}:port/42"), "port"),
    ] {
        let said = expect(2, &ask(&dsn, &[], &[]));
        assert!(said.contains(words) && said.contains("Client Keys"), "{dsn}: {said}");
    }
    // On the wrong place of the command line, too.
    for arguments in [
        vec![format!("{secret}/1"), format!("{secret}/2")],
        vec![format!("--json={secret}/1")],
        vec![format!("--{secret}/1")],
        vec![format!("-d{secret}/1")],
        vec![],
    ] {
        let output = Command::new(binary())
            .args(&arguments)
            .env_remove("SENTRY_DSN")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!complaint.contains(KEY), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn no_such_name() {
    // Refused by the system without asking anybody: no label is that long.
    let dsn = format!("http://{KEY}@{}.invalid/42", "x".repeat(64));
    let said = expect(1, &ask(&dsn, &[], &[]));
    let failed = said.lines().find(|line| line.contains(" failed ")).unwrap();
    assert!(failed.trim_start().starts_with("name"), "{said}");
    assert!(said.contains("spelled as in the project's settings"), "{said}");
}

#[test]
fn nobody_listens() {
    let server = FaultServer::start();
    server.set(Mode::Refused);
    expect_failed(&server, &[], "connection", &["refused", "nobody listens at that port"]);
}

#[cfg(target_os = "linux")]
#[test]
fn connections_do_not_come_about() {
    let server = FaultServer::start();
    server.set(Mode::BlackHole);
    expect_failed(&server, &["--timeout", "0.2"], "connection", &["firewall"]);
}

#[test]
fn no_answer_comes() {
    let server = FaultServer::start();
    server.set(Mode::SlowHeaders);
    let words = ["timeout", "does not answer", "lost: network_error"];
    expect_failed(&server, &["--timeout", "0.3"], "answer", &words);
}

#[test]
fn no_http_is_spoken() {
    let server = FaultServer::start();
    server.set(Mode::Garbage);
    expect_failed(&server, &[], "answer", &["does not speak HTTP"]);
}

#[test]
fn each_bad_certificate_is_told_apart() {
    let server = FaultServer::start_tls();
    server.set(Mode::BadCertificate);
    let mut found = Vec::new();
    let certs = server.ca_certs().unwrap();
    for _ in 0..3 {
        let arguments = ["--ca-certs", certs.to_str().unwrap()];
        let said = expect(1, &ask(&server.dsn(), &arguments, &[]));
        let failed = said.lines().find(|line| line.contains(" failed ")).unwrap();
        assert!(failed.trim_start().starts_with("TLS"), "{said}");
        let known = ["has expired", "is for another host", "is not trusted here"];
        let which = known.into_iter().find(|words| said.contains(words));
        found.push(which.unwrap_or_else(|| panic!("{said}")));
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_handshake_that_stalls_is_tls() {
    let server = FaultServer::start_tls();
    server.set(Mode::HandshakeStalls);
    let words = ["the handshake of TLS is not answered"];
    expect_failed(&server, &["--timeout", "0.3"], "TLS", &words);
}

#[test]
fn https_where_http_is_spoken() {
    let server = FaultServer::start();
    let dsn = server.named_dsn().replace("http:", "https:");
    let said = expect(1, &ask(&dsn, &[], &[]));
    assert!(said.contains("without TLS") && said.contains("scheme"), "{said}");
    assert!(!said.contains("is believed"), "{said}");
}

#[test]
fn statuses_have_their_advice_and_reflected_keys_are_hidden() {
    let server = FaultServer::start();
    for (status, words) in [
        (400, "cannot read what it was sent"),
        (401, "copy the DSN anew"),
        (403, "copy the DSN anew"),
        (404, "no such project"),
        (413, "client_max_body_size"),
        (500, "in trouble"),
        (418, "no answer of a Sentry server"),
    ] {
        server.set(Mode::Status(status));
        let status = format!("status {status}: ***");
        expect_failed(&server, &[], "answer", &[words, &status, "lost: send_error"]);
    }
    server.set(Mode::Redirect);
    expect_failed(&server, &[], "answer", &["redirects are not followed"]);
    assert_eq!(server.redirected(), 0);
}

#[test]
fn limits_are_told_in_words() {
    let server = FaultServer::start();
    server.set(Mode::TooManyLimits);
    let words = ["status 429", "nothing for 1 s (of the organization)", "lost: refused"];
    expect_failed(&server, &[], "answer", &words);
    server.set(Mode::TooManySeconds);
    expect_failed(&server, &[], "answer", &["status 429: quota", "Retry-After 1"]);
    server.set(Mode::Status(429));
    expect_failed(&server, &[], "answer", &["Retry-After Sentry sentry_key=***"]);
    server.set(Mode::TooManyBare);
    expect_failed(&server, &[], "answer", &["nothing is taken for 60 s"]);
    server.set(Mode::LimitsOnSuccess);
    expect_failed(
        &server,
        &[],
        "limits",
        &["no transactions for 60 s (of the organization: quota)"],
    );
}

#[test]
fn a_clock_that_is_off_is_noticed() {
    let server = FaultServer::start();
    server.set_clock_ahead(3_700);
    expect_failed(&server, &[], "clock", &["behind the server's", "NTP"]);
    server.set_clock_ahead(-3_700);
    expect_failed(&server, &[], "clock", &["ahead of the server's"]);
    server.set_clock_ahead(30);
    expect(0, &ask(&server.dsn(), &[], &[]));
}

#[test]
fn the_proxy_is_shown_without_its_password() {
    let server = FaultServer::start();
    let proxy = format!("http://user:p4ss@{}", server.address());
    let dsn = format!("http://{KEY}@sentry.invalid/42");
    let said = expect(0, &ask(&dsn, &[], &[("http_proxy", &proxy)]));
    let shown = format!("through the proxy http://{}", server.address());
    assert!(said.contains(&shown) && said.contains("the proxy listens at"), "{said}");
    assert_eq!(server.connects()[0].target, "sentry.invalid:80");

    server.set(Mode::Refused);
    let said = expect(1, &ask(&dsn, &[], &[("http_proxy", &proxy)]));
    assert!(said.contains("whether the proxy runs"), "{said}");

    let said = expect(2, &ask(&dsn, &[], &[("http_proxy", "socks5://user:p4ss@proxy:1080")]));
    assert!(said.contains("settings") && said.contains("http_proxy"), "{said}");
}
