//! [`Site`]: what is the same in every envelope of a process, and its JSON, made once.

use std::fmt;

use super::json;
use super::time::ID;

/// What stands in front of the event id in a header.
pub(super) const EVENT_ID: &[u8] = b"{\"event_id\":\"";

/// Facts about the process, fixed at `init`. Texts that the server would refuse are left out of
/// what is sent, so check them where they come from.
#[derive(Clone, Default)]
pub(crate) struct Site {
    pub(crate) release: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) dist: Option<String>,
    pub(crate) server_name: Option<String>,
    /// The public key of the DSN; without one there is no `trace` header.
    pub(crate) public_key: Option<String>,
    /// The organisation in the DSN's host (`o123.`), digits only.
    pub(crate) org_id: Option<String>,
    pub(crate) sdk_name: &'static str,
    pub(crate) sdk_version: &'static str,
    /// Children kept in a transaction.
    pub(crate) max_spans: usize,
    /// The version of the compiler, if the build knows it.
    pub(crate) runtime_version: Option<String>,
    /// The operating system's name, and its release (`/proc/sys/kernel/osrelease`).
    pub(crate) os_name: Option<String>,
    pub(crate) os_version: Option<String>,
}

/// The DSN's key must not get into logs.
impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("release", &self.release)
            .field("environment", &self.environment)
            .field("server_name", &self.server_name)
            .field("max_spans", &self.max_spans)
            .finish_non_exhaustive()
    }
}

/// The JSON of a [`Site`], in the pieces that the encoder puts between its own.
#[derive(Default)]
pub(super) struct Pieces {
    /// How a header begins; blank are the event id and, behind `trace_at`, the trace's:
    /// `{"event_id":"…","sdk":{…},"trace":{"public_key":"…","trace_id":"…","sample_rate"`.
    pub(super) opening: Vec<u8>,
    /// Bytes of that in front of `trace`.
    pub(super) untraced: usize,
    /// `None`: there is no public key, and no `trace`.
    pub(super) trace_at: Option<usize>,
    /// `,"sampled":"true","release":…,"environment":…,"org_id":…` as they follow in `trace`.
    pub(super) trace: Vec<u8>,
    /// `"platform":"native","sdk":…,"release":…` to `server_name`, and a comma.
    pub(super) facts: Vec<u8>,
    /// `,"runtime":{…},"os":{…}}` behind the other members of `contexts`.
    pub(super) contexts: Vec<u8>,
    /// A root's tag `server_name` would be overwritten by this fact.
    pub(super) has_server_name: bool,
    pub(super) max_spans: usize,
}

impl Pieces {
    pub(super) fn new(site: &Site) -> Self {
        // What Relay would null, found out by asking its normaliser.
        let release = trimmed(&site.release, 200).filter(|text| {
            !text.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
                && !matches!(*text, "." | ".." | "latest")
        });
        let environment = trimmed(&site.environment, 64).filter(|text| {
            !text.contains(|c: char| c.is_control() || matches!(c, '/' | '\\'))
                && !text.eq_ignore_ascii_case("none")
        });
        let dist = trimmed(&site.dist, 64).filter(|text| {
            release.is_some()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
        let server_name =
            site.server_name.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let server_name = server_name.map(|text| json::cut_chars(text, 200).0);

        let mut pieces = Self { max_spans: site.max_spans, ..Self::default() };
        let mut sdk = b",\"sdk\":".to_vec();
        object(&mut sdk, &[("name", Some(site.sdk_name)), ("version", Some(site.sdk_version))]);

        pieces.opening.extend_from_slice(EVENT_ID);
        pieces.opening.extend_from_slice(&[b'.'; 2 * ID]);
        pieces.opening.push(b'"');
        pieces.opening.extend_from_slice(&sdk);
        pieces.untraced = pieces.opening.len();
        if let Some(key) = site.public_key.as_deref() {
            pieces.opening.extend_from_slice(b",\"trace\":{\"public_key\":");
            json::string(&mut pieces.opening, key);
            pieces.opening.extend_from_slice(b",\"trace_id\":\"");
            pieces.trace_at = Some(pieces.opening.len());
            pieces.opening.extend_from_slice(&[b'.'; 2 * ID]);
            pieces.opening.extend_from_slice(b"\",\"sample_rate\"");
        }
        pieces.trace.extend_from_slice(b",\"sampled\":\"true\"");
        for (name, value) in
            [("release", release), ("environment", environment), ("org_id", site.org_id.as_deref())]
        {
            member(&mut pieces.trace, name, value);
        }

        member(&mut pieces.facts, "platform", Some("native"));
        pieces.facts.extend_from_slice(&sdk);
        for (name, value) in [
            ("release", release),
            ("environment", environment),
            ("dist", dist),
            ("server_name", server_name),
        ] {
            member(&mut pieces.facts, name, value);
        }
        // The comma in front goes to the end.
        pieces.facts.rotate_left(1);
        pieces.has_server_name = server_name.is_some();

        pieces.contexts.extend_from_slice(b",\"runtime\":");
        let version = trimmed(&site.runtime_version, 200);
        object(&mut pieces.contexts, &[("name", Some("rust")), ("version", version)]);
        if let Some(name) = trimmed(&site.os_name, 200) {
            pieces.contexts.extend_from_slice(b",\"os\":");
            let version = trimmed(&site.os_version, 200);
            object(&mut pieces.contexts, &[("name", Some(name)), ("version", version)]);
        }
        pieces.contexts.push(b'}');
        pieces
    }
}

/// A text without white space around it, if something is left, of at most so many characters.
fn trimmed(text: &Option<String>, chars: usize) -> Option<&str> {
    let text = text.as_deref()?.trim();
    (!text.is_empty() && !json::cut_chars(text, chars).1).then_some(text)
}

/// Appends `,"name":"value"`, or nothing.
fn member(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push(b',');
        json::string(out, name);
        out.push(b':');
        json::string(out, value);
    }
}

fn object(out: &mut Vec<u8>, members: &[(&str, Option<&str>)]) {
    out.push(b'{');
    let mark = out.len();
    for (name, value) in members {
        member(out, name, *value);
    }
    if out.len() > mark {
        out.remove(mark);
    }
    out.push(b'}');
}
