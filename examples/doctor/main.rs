//! Why nothing arrives: the way to the server, step by step, and one transaction sent along it.
//!
//! ```text
//! cargo run --example doctor -- --dsn https://KEY@HOST/PROJECT
//! ```
//!
//! Everything is looked at as the library has it: the DSN, the proxy and the certificates come from
//! its own configuration, and the transaction goes through `init`, a recording thread, the flusher
//! and the uploader. What each step found is a line of a table; what failed is followed by what to
//! do about it. No key and no password is shown, also not when the server repeats it.
//!
//! To read it: `send.rs` is what an application would have to write to see the answers; `reach.rs`
//! looks at the network; `advice.rs` and `limits.rs` put into words what was found; the rest is a
//! command line around them.
#![forbid(unsafe_code)]

mod advice;
mod cli;
mod clock;
mod findings;
mod limits;
mod reach;
mod report;
mod send;
mod veil;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use hotspan::transport::{Http, HttpOptions, SendErrorKind};
use hotspan::{Config, Dsn};

use crate::cli::{Asked, Options};
use crate::findings::{Findings, Step};
use crate::reach::Way;
use crate::send::Sent;
use crate::veil::Veil;

/// Everything is as it should be.
const FINE: u8 = 0;
/// A step failed.
const FAILED: u8 = 1;
/// The command line or the configuration asks for what cannot be done.
const USAGE: u8 = 2;

/// Connecting may take this long at most, and half of what a request may.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let done = match cli::parse() {
        Ok(Asked::Help) => print(cli::HELP).map(|()| FINE),
        Ok(Asked::Version) => print(cli::VERSION).map(|()| FINE),
        Ok(Asked::Examine(options)) => run(&options),
        Err(problem) => Err(problem),
    };
    ExitCode::from(done.unwrap_or_else(|problem| {
        // When even stderr is closed there is nobody left to tell.
        drop(writeln!(io::stderr(), "doctor: {problem}"));
        USAGE
    }))
}

fn run(options: &Options) -> Result<u8, String> {
    let veil = Veil::new(&options.dsn);
    let mut findings = Findings::default();
    let code = match examine(options, &veil, &mut findings) {
        Some(()) if findings.all_is_well() => FINE,
        Some(()) => FAILED,
        None => USAGE,
    };
    let text = if options.json {
        report::as_json(&findings, &veil)?
    } else {
        report::as_text(&findings, &veil)
    };
    print(&text)?;
    Ok(code)
}

/// Goes the way as far as it leads. `None`: the configuration is none.
fn examine(options: &Options, veil: &Veil, findings: &mut Findings) -> Option<()> {
    let dsn: Dsn = match options.dsn.parse() {
        Ok(dsn) => dsn,
        Err(problem) => {
            findings.failed(Step::Dsn, problem, advice::DSN);
            return None;
        }
    };
    findings.ok(Step::Dsn, &dsn);
    let config = config(options);
    let http = match HttpOptions::for_config(&config) {
        Ok(Some(http)) => http,
        Ok(None) => {
            findings.failed(Step::Settings, "there is no DSN", advice::DSN);
            return None;
        }
        Err(problem) => {
            findings.failed(Step::Settings, problem, advice::SETTINGS);
            return None;
        }
    };
    let proxy = http.shown_proxy();
    let transport = match Http::new(http) {
        Ok(transport) => transport,
        Err(problem) => {
            findings.failed(Step::Settings, problem, advice::SETTINGS);
            return None;
        }
    };
    findings.ok(
        Step::Settings,
        match &proxy {
            Some(proxy) => format!("through the proxy {proxy}"),
            None => "no proxy".to_owned(),
        },
    );
    let Some(way) = Way::to(&dsn, proxy.as_deref()) else {
        findings.failed(Step::Settings, "the proxy has no address", advice::SETTINGS);
        return None;
    };
    if way.look_at(config.connect_timeout, findings).is_none() {
        return Some(());
    }
    match send::one(config, transport) {
        Ok(sent) => tell(&sent, dsn.scheme() == "https", veil, findings),
        Err(problem) => findings.failed(Step::Answer, problem, advice::SETTINGS),
    }
    Some(())
}

fn config(options: &Options) -> Config {
    Config {
        dsn: Some(options.dsn.clone()),
        ca_certs: options.ca_certs.clone(),
        traces_sample_rate: Some(1.0),
        request_timeout: options.timeout,
        connect_timeout: CONNECT_TIMEOUT.min(options.timeout / 2),
        // What went wrong the first time is what is wanted.
        upload_retries: 0,
        upload_concurrency: 1,
        enable_backpressure_handling: false,
        send_client_reports: false,
        ..Config::default()
    }
}

/// What the sending showed.
fn tell(sent: &Sent, is_tls: bool, veil: &Veil, findings: &mut Findings) {
    match &sent.answer {
        Some(Ok(answer)) => {
            if is_tls {
                findings.ok(Step::Tls, "the certificate is believed");
            }
            let status = answer.response.status;
            let detail = answer.response.detail.as_deref();
            let found = match detail {
                Some(detail) => format!("status {status}: {detail}"),
                None => format!("status {status}"),
            };
            match advice::for_status(status) {
                None => findings.ok(Step::Answer, found),
                Some(advice) => findings.failed(Step::Answer, found, advice),
            }
            clock::compare(answer, findings);
            limits::tell(&answer.response, veil, findings);
        }
        Some(Err(failure)) => {
            let step = advice::step_of(failure, is_tls);
            // Connecting has the shorter time-out: beyond it, the handshake was done.
            if is_tls && failure.kind == SendErrorKind::Timeout {
                findings.ok(Step::Tls, "the certificate is believed");
            }
            findings.failed(step, &failure.text, advice::for_failure(failure));
        }
        None => findings.failed(Step::Answer, "none, and no error, in time", advice::NO_ANSWER),
    }
    if sent.is_delivered {
        findings.ok(Step::Delivery, &sent.books);
    } else {
        findings.failed(Step::Delivery, &sent.books, advice::DELIVERY);
    }
}

/// Writes to stdout; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("stdout cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}
