//! The command line: what can be asked for, and what is wrong with it, without repeating what it
//! holds: that may be a key.

use std::env;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Parser;
use lexopt::prelude::*;

pub(crate) const VERSION: &str = concat!("doctor ", env!("CARGO_PKG_VERSION"), "\n");

pub(crate) const HELP: &str = "\
Says what is wrong on the way to a Sentry server, by sending one transaction there.

Usage: doctor [OPTIONS] [DSN]

Options:
      --dsn DSN          the DSN to look at [default: $SENTRY_DSN]
      --ca-certs FILE    certificates to trust besides those of the public authorities
                         [default: $SSL_CERT_FILE]
      --timeout SECONDS  how long the request may take, 0.1 to 300 [default: 10]
      --json             print what was found as one JSON object
  -h, --help             print this
  -V, --version          print the version

Proxies are taken from http_proxy, https_proxy and no_proxy, as the library does.

Exit codes: 0 all is well, 1 a step failed, 2 the command line or a setting asks for what cannot be
done.
";

const TIMEOUT: RangeInclusive<f64> = 0.1..=300.0;

/// What the command line asks for.
pub(crate) enum Asked {
    Examine(Options),
    Help,
    Version,
}

pub(crate) struct Options {
    pub(crate) dsn: String,
    pub(crate) ca_certs: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
}

/// Reads the arguments and `SENTRY_DSN`.
pub(crate) fn parse() -> Result<Asked, String> {
    let mut parser = Parser::from_env();
    let (mut dsn, mut ca_certs, mut timeout, mut json) = (None, None, 10.0, false);
    while let Some(argument) = parser.next().map_err(named)? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Long("dsn") => dsn = Some(parser.value().map_err(named)?),
            Long("ca-certs") => ca_certs = Some(parser.value().map_err(named)?.into()),
            Long("timeout") => {
                let text = parser.value().and_then(|value| value.string()).map_err(named)?;
                let number = text.parse().ok().filter(|seconds| TIMEOUT.contains(seconds));
                timeout = number.ok_or("--timeout takes 0.1 to 300 seconds")?;
            }
            Long("json") => json = true,
            Value(value) if dsn.is_none() => dsn = Some(value),
            Value(_) => return Err("there is one DSN too many".to_owned()),
            other => return Err(named(other.unexpected())),
        }
    }
    let dsn = match dsn {
        Some(dsn) => dsn.into_string().map_err(|_| "the DSN is no text".to_owned())?,
        None => env::var("SENTRY_DSN").unwrap_or_default(),
    };
    if dsn.trim().is_empty() {
        return Err("name a DSN: --dsn, or SENTRY_DSN (--help tells more)".to_owned());
    }
    let timeout = Duration::from_secs_f64(timeout);
    Ok(Asked::Examine(Options { dsn, ca_certs, timeout, json }))
}

/// What is wrong, by the name of the option alone.
fn named(error: lexopt::Error) -> String {
    let (problem, option) = match error {
        lexopt::Error::UnexpectedOption(option) => ("there is no option", option),
        lexopt::Error::MissingValue { option } => ("no value for", option.unwrap_or_default()),
        lexopt::Error::UnexpectedValue { option, .. } => ("no value is taken by", option),
        _ => ("the arguments are", "no text".to_owned()),
    };
    let is_name = |letter: &char| letter.is_ascii_lowercase() || matches!(letter, '-' | ' ');
    let name: String = option.chars().take_while(is_name).collect();
    format!("{problem} {name} (--help tells which there are)")
}
