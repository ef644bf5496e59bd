//! What the server answered, with nothing believed of it.
//!
//! # Invariants
//! * A1: of a body at most [`BODY_MAX`] is read, as it comes out of the reader: should the host's
//!   build have decompression in `ureq`, a small body may unpack to a huge one.
//! * A2: the status decides, whatever becomes of the body. Read to its end, the connection is kept;
//!   given up before, it is closed.
//! * A3: a success allocates for the two headers of rate limits and for nothing else.

use std::io::Read;
use std::str::Chars;

use ureq::Body;
use ureq::http::StatusCode;
use ureq::http::header::{DATE, HeaderMap};

use crate::transport::Response;

/// Of an answer's body, at most this much is read. A longer one costs the connection.
pub(super) const BODY_MAX: u64 = 64 * 1024;

/// What is wrong must stand within this much of it.
pub(super) const DETAIL_BODY_MAX: u16 = 4 * 1024;

/// What the server says is wrong is shown up to this length.
pub(super) const DETAIL_CHARS_MAX: usize = 200;

/// Texts that nobody may be shown: the key, and what else stands in the header that we send.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Of `Sentry sentry_key=…, sentry_secret=…`, or of a text of another form, which is one as a
    /// whole.
    pub(super) fn of(auth: &str) -> Self {
        let members = auth.trim_start_matches("Sentry ").split(',');
        let values = members.filter_map(|member| {
            let (name, value) = member.trim().split_once('=')?;
            matches!(name, "sentry_key" | "sentry_secret").then_some(value)
        });
        let whole = std::iter::once(auth.trim());
        let all = values.chain(whole).filter(|text| !text.is_empty());
        Self(all.map(str::to_ascii_lowercase).collect())
    }

    fn is_in(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        self.0.iter().any(|secret| text.contains(secret))
    }
}

/// Reads the answer to its end, or to what is read at most.
pub(super) fn read(answer: &mut ureq::http::Response<Body>, secrets: &Secrets) -> Response {
    let mut response = head(answer.status(), answer.headers(), secrets);
    // A1, A2: errors end the reading and are of no concern.
    let mut body = answer.body_mut().as_reader().take(BODY_MAX);
    if wants_body(&response) {
        let mut start = Vec::new();
        let _ = body.by_ref().take(DETAIL_BODY_MAX.into()).read_to_end(&mut start);
        explain(&mut response, &start, secrets);
    }
    // Most are `{"id":"…"}`: a large buffer would be cleared for each.
    let mut rest = [0; 512];
    while matches!(body.read(&mut rest), Ok(1..)) {}
    response
}

/// What stands in the head of an answer.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, secrets: &Secrets) -> Response {
    let mut response = Response {
        rate_limits: joined(headers, "x-sentry-rate-limits"),
        retry_after: joined(headers, "retry-after"),
        date: headers
            .get(DATE)
            .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok()),
        ..Response::status(status.as_u16())
    };
    if !status.is_success()
        && let Some(error) = headers.get("x-sentry-error")
    {
        response.detail = presentable(&String::from_utf8_lossy(error.as_bytes()), secrets);
    }
    response
}

/// Whether what is wrong may stand in the body.
pub(super) fn wants_body(response: &Response) -> bool {
    !matches!(response.status, 200..=299) && response.detail.is_none()
}

/// Looks in the start of the body for what is wrong.
pub(super) fn explain(response: &mut Response, start: &[u8], secrets: &Secrets) {
    response.detail = detail(start).and_then(|text| presentable(&text, secrets));
}

/// All headers of that name, joined by commas; those that are no text are left out.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut all = values.next()?.to_owned();
    for value in values {
        all.push(',');
        all.push_str(value);
    }
    Some(all)
}

/// A stranger's text, such that it can be logged; `None` if there is nothing in it.
fn presentable(text: &str, secrets: &Secrets) -> Option<String> {
    // Before it is cut: half a key is one, too.
    if secrets.is_in(text) {
        return Some("***".to_owned());
    }
    let shown = text.trim().chars().take(DETAIL_CHARS_MAX);
    let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown = shown.trim_end();
    (!shown.is_empty()).then(|| shown.to_owned())
}

/// The text behind the first `"detail":` of some JSON, which may be cut off in it. Nothing else
/// is asked of what comes: it is shown to people, and a parser would be in the tree for it alone.
fn detail(json: &[u8]) -> Option<String> {
    let json = String::from_utf8_lossy(json);
    let value = json.match_indices("\"detail\"").find_map(|(at, name)| {
        let behind = json.get(at + name.len()..)?.trim_start();
        behind.strip_prefix(':')?.trim_start().strip_prefix('"')
    })?;
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = unescaped(&mut chars) {
        text.push(c);
    }
    Some(text)
}

/// The next character of a JSON text; `None` at its end, or where it is no such text.
fn unescaped(chars: &mut Chars<'_>) -> Option<char> {
    match chars.next()? {
        '"' => None,
        '\\' => match chars.next()? {
            'n' | 'r' | 't' | 'b' | 'f' => Some(' '),
            'u' => {
                let digits = chars.as_str().get(..4)?;
                *chars = chars.as_str().get(4..)?.chars();
                let unit = u32::from_str_radix(digits, 16).ok()?;
                // Halves of a pair become two of these.
                Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            plain => Some(plain),
        },
        plain => Some(plain),
    }
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    #[test]
    fn headers_of_one_name_are_joined() {
        let mut headers = HeaderMap::new();
        assert_eq!(joined(&headers, "x-sentry-rate-limits"), None);
        headers.append("x-sentry-rate-limits", HeaderValue::from_static("1:span:key"));
        headers.append("x-sentry-rate-limits", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append("X-Sentry-Rate-Limits", HeaderValue::from_static("2::key"));
        assert_eq!(joined(&headers, "x-sentry-rate-limits").unwrap(), "1:span:key,2::key");
    }

    #[test]
    fn a_detail_is_found_in_what_servers_write() {
        for (json, expected) in [
            (r#"{"detail":"bad key","causes":["x"]}"#, Some("bad key")),
            (r#"{ "causes" : [], "detail" : "a \"b\" \\ \/ é \u00e9" }"#, Some("a \"b\" \\ / é é")),
            (r#"{"detail":"two\nlines\u0007"}"#, Some("two lines\u{7}")),
            (r#"{"detail":"pair \ud83d\ude00"}"#, Some("pair \u{fffd}\u{fffd}")),
            (r#"{"detail":null,"error":"x"}"#, None),
            (r#"{"x":"detail","detail":"y"}"#, Some("y")),
            (r#"{"detail":"never closed"#, Some("never closed")),
            (r#"{"detail":"ends in \"#, Some("ends in ")),
            (r#"{"detail":"a\u00"}"#, Some("a")),
            (r#"{"detail":"b\u00é9"}"#, Some("b")),
            (r#"{"detail":"c\uzzzz"}"#, Some("c")),
            (r#"{"detail""#, None),
            ("<html>detail</html>", None),
            ("", None),
        ] {
            assert_eq!(detail(json.as_bytes()).as_deref(), expected, "{json}");
        }
        assert_eq!(detail(b"\xff{\"detail\":\"\xff\"}").as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn what_is_shown_is_bounded_and_holds_no_secret() {
        let secrets =
            Secrets::of("Sentry sentry_key=hushhush, sentry_secret=qu1et, sentry_version=7");
        let shown = |text: &str| presentable(text, &secrets);
        assert_eq!(shown("project not found").as_deref(), Some("project not found"));
        assert_eq!(shown(" a\r\nb\x1b[2J\u{9b} ").as_deref(), Some("a  b [2J"));
        assert_eq!(shown(" \n "), None);
        assert_eq!(shown(&"é".repeat(300)).unwrap(), "é".repeat(200));
        for text in ["key HushHush is disabled", "qu1et"] {
            assert_eq!(shown(text).as_deref(), Some("***"), "{text}");
        }
        // Across the place where it is cut.
        assert_eq!(shown(&format!("{}hushhush", "x".repeat(196))).as_deref(), Some("***"));
        assert_eq!(Secrets::of("Bearer hush").0, ["bearer hush"]);
        assert!(!Secrets::of("").is_in("anything"));
    }
}
