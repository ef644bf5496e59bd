//! What to do about each failure.

use hotspan::transport::SendErrorKind;

use crate::findings::Step;
use crate::send::Failure;

pub(crate) const DSN: &str = "copy it anew from the project's settings, Client Keys (DSN); it looks \
    like https://KEY@HOST/PROJECT, with digits as PROJECT.";

pub(crate) const SETTINGS: &str = "correct or unset the setting or variable that is named here; \
    recording would not start with it.";

pub(crate) const NAME: &str = "see whether the host is spelled as in the project's settings, and \
    whether this machine can look up names (in a container: its /etc/resolv.conf). Where only a \
    proxy may look up names, set https_proxy.";

pub(crate) const REFUSED: &str = "the machine is there, and nobody listens at that port: see whether \
    the port of the DSN is right and the server (Relay, or its proxy) runs.";

pub(crate) const UNREACHABLE: &str = "something on the way swallows or rejects connections: a \
    firewall, a network policy, a route. Where a proxy is asked for, set https_proxy.";

pub(crate) const PROXY: &str = "see whether the proxy runs, and whether http_proxy or https_proxy \
    names its address, its user and its password; no_proxy names hosts that do without.";

pub(crate) const NO_ANSWER: &str = "the server, or a proxy before it, takes connections and does not \
    answer: see whether it is overloaded, or whether something else listens at that port. A longer \
    --timeout tells whether it is merely slow.";

pub(crate) const CLOCK: &str = "set this machine's clock, and have it kept by NTP: the server shifts \
    or drops what seems to come from another time.";

pub(crate) const LIMITS: &str = "until then all of that is dropped, here and counted as \
    rate_limited: see the quota and the rate limits of the key and of the organisation, and sample \
    less.";

pub(crate) const DELIVERY: &str = "what failed above is why.";

const BROKEN: &str = "what listens there does not speak HTTP as a server of Sentry does, or speaks it \
    without TLS: see whether scheme, host and port of the DSN are right.";

/// What a status means; `None`: it is a good one.
pub(crate) fn for_status(status: u16) -> Option<&'static str> {
    Some(match status {
        200..=299 => return None,
        300..=399 => {
            "redirects are not followed, for they would carry the key elsewhere: put the address \
             they lead to into the DSN (often https instead of http)."
        }
        400 => {
            "the server cannot read what it was sent: see what it says, and whether it is a Sentry \
             or Relay that takes envelopes with transactions."
        }
        401 | 403 => {
            "the key is not known there, is switched off, or is that of another project: copy the \
             DSN anew from the project's settings, Client Keys (DSN)."
        }
        404 => {
            "there is no such project, or no Sentry at this address: see whether host, path and \
             project of the DSN are right."
        }
        407 => "the proxy wants another user or password: see http_proxy or https_proxy.",
        413 => {
            "even this small envelope is too large for the server or a proxy before it: see its \
             limit on bodies (nginx: client_max_body_size, Relay: max_envelope_size)."
        }
        429 => "the server takes no more for now: see the limits.",
        500..=599 => {
            "the server, or a proxy before it, is in trouble: try again later, and see its logs if \
             it is yours."
        }
        _ => {
            "this is no answer of a Sentry server: see whether host and port of the DSN are right."
        }
    })
}

/// Where the way ended.
pub(crate) fn step_of(failure: &Failure, is_tls: bool) -> Step {
    match failure.kind {
        SendErrorKind::Resolve => Step::Name,
        SendErrorKind::Tls => Step::Tls,
        // The connection was there a moment ago: what took too long is the handshake.
        SendErrorKind::Connect if is_tls && failure.is_timeout => Step::Tls,
        SendErrorKind::Connect | SendErrorKind::Proxy => Step::Connect,
        _ => Step::Answer,
    }
}

pub(crate) fn for_failure(failure: &Failure) -> &'static str {
    match failure.kind {
        SendErrorKind::Resolve => NAME,
        SendErrorKind::Tls => for_certificate(&failure.text),
        SendErrorKind::Connect if failure.is_timeout => UNREACHABLE_TLS,
        SendErrorKind::Connect => REFUSED,
        SendErrorKind::Proxy => PROXY,
        SendErrorKind::Timeout => NO_ANSWER,
        _ => BROKEN,
    }
}

const UNREACHABLE_TLS: &str = "the handshake of TLS is not answered: see whether the port of the DSN \
    is one for https, and whether a firewall looks into connections.";

/// Which problem it is with a certificate, by the words of the TLS library.
fn for_certificate(problem: &str) -> &'static str {
    let problem = problem.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    if says(&["expired"]) {
        "the certificate has expired, or this machine's clock is ahead: have it renewed, or set the \
         clock."
    } else if says(&["notvalidyet", "not valid yet"]) {
        "the certificate is not valid yet: this machine's clock is probably behind."
    } else if says(&["notvalidforname", "not valid for name"]) {
        "the certificate is for another host: the DSN must name the host as the certificate does."
    } else if says(&["unknownissuer", "caused by: unknown issuer", "caused by unknown issuer"]) {
        "the authority that signed the certificate is not trusted here: name its certificate, as a \
         PEM file, in ca_certs or SSL_CERT_FILE. If a firewall looks into connections, it is the \
         firewall's."
    } else if says(&["revoked"]) {
        "the certificate was revoked: the server needs another."
    } else if says(&["certificate"]) {
        "the certificate is not believed: see what is said about it, and have it replaced."
    } else {
        "the two sides do not agree on TLS: see whether the port of the DSN is one for https, and \
         whether the server knows TLS 1.2 or 1.3."
    }
}
