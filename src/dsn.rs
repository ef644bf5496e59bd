//! [`Dsn`]: where envelopes go and under which key, read once from one line of text.
//!
//! A DSN is a URL of the shape
//!
//! ```text
//! https://PUBLIC_KEY[:SECRET]@HOST[:PORT][/PREFIX]/PROJECT_ID
//! ```
//!
//! The parser is stricter than a browser, because what it lets through ends up in a header and in
//! an address: only printable ASCII, one `@` before the host, no backslashes, digits where digits
//! belong. It reads left to right: scheme, authority (keys, then host and port), path (prefix, then
//! project).
//!
//! # Limits
//! At most [`LENGTH_MAX`] bytes. The key's alphabet is not checked beyond that: it is the server's.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A parsed DSN: a server, a project on it, and the key to send under.
///
/// Neither `Debug` nor `Display` shows the key.
///
/// ```
/// use hotspan::Dsn;
///
/// let dsn: Dsn = "https://abc123@o42.ingest.example.com/7".parse()?;
/// assert_eq!(dsn.envelope_url(), "https://o42.ingest.example.com/api/7/envelope/");
/// assert_eq!(dsn.org_id(), Some(42));
/// assert_eq!(dsn.to_string(), "https://***@o42.ingest.example.com/7");
/// # Ok::<(), hotspan::ParseDsnError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    scheme: Scheme,
    public_key: String,
    secret_key: Option<String>,
    host: String,
    port: u16,
    /// Empty, or with a slash in front and none behind.
    prefix: String,
    project_id: u64,
}

impl Dsn {
    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.scheme.as_str()
    }

    /// The host in lower case: a name, an IPv4 address, or an IPv6 address in its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 or 443 where the DSN names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they stand in an URL: the scheme's own port is left out.
    pub(crate) fn authority(&self) -> String {
        match (self.scheme(), self.port) {
            ("http", 80) | ("https", 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The public key. It lets anyone send to the project: treat it as half a secret.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The project on the server.
    #[must_use]
    pub fn project_id(&self) -> u64 {
        self.project_id
    }

    /// The organisation, where the host starts with one, as in `o42.ingest.example.com`.
    #[must_use]
    pub fn org_id(&self) -> Option<u64> {
        let (label, _) = self.host.split_once('.')?;
        decimal(label.strip_prefix('o')?)
    }

    /// Where envelopes are posted. Holds no key.
    #[must_use]
    pub fn envelope_url(&self) -> String {
        let Self { prefix, project_id, .. } = self;
        format!("{}{prefix}/api/{project_id}/envelope/", self.origin(""))
    }

    /// The value of the `X-Sentry-Auth` header, for a client that calls itself `name/version`.
    ///
    /// It holds the key, and the secret if there is one: mark the header as sensitive.
    ///
    /// ```
    /// # use hotspan::Dsn;
    /// let dsn: Dsn = "http://abc@localhost:9000/1".parse()?;
    /// assert_eq!(
    ///     dsn.auth_header("app/1.0"),
    ///     "Sentry sentry_key=abc, sentry_version=7, sentry_client=app/1.0"
    /// );
    /// # Ok::<(), hotspan::ParseDsnError>(())
    /// ```
    #[must_use]
    pub fn auth_header(&self, client: &str) -> String {
        let key = &self.public_key;
        let mut header =
            format!("Sentry sentry_key={key}, sentry_version=7, sentry_client={client}");
        if let Some(secret) = &self.secret_key {
            header.push_str(", sentry_secret=");
            header.push_str(secret);
        }
        header
    }

    /// Scheme, host, and the port unless it is the scheme's own.
    fn origin(&self, userinfo: &str) -> String {
        let Self { scheme, host, port, .. } = self;
        if *port == scheme.port() {
            format!("{}://{userinfo}{host}", scheme.as_str())
        } else {
            format!("{}://{userinfo}{host}:{port}", scheme.as_str())
        }
    }
}

impl FromStr for Dsn {
    type Err = ParseDsnError;

    /// Reads a DSN. White space around it is ignored (keys often come from files that end with a
    /// new line); so are a query, a fragment and slashes at the end.
    fn from_str(text: &str) -> Result<Self, ParseDsnError> {
        let text = text.trim_ascii();
        if text.len() > LENGTH_MAX || !text.bytes().all(is_url_byte) {
            return Err(ParseDsnError::Unparsable);
        }
        let (scheme, rest) = text.split_once("://").ok_or(ParseDsnError::Unparsable)?;
        let scheme = Scheme::parse(scheme).ok_or(ParseDsnError::Scheme)?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));

        let (keys, address) = match authority.split_once('@') {
            Some((_, address)) if address.contains('@') => return Err(ParseDsnError::Unparsable),
            Some(parts) => parts,
            None => ("", authority),
        };
        let (host, port) = host_and_port(address).map_err(|error| match error {
            AddressError::Host => ParseDsnError::Host,
            AddressError::Port => ParseDsnError::Port,
        })?;
        let (public_key, secret_key) = keys.split_once(':').unwrap_or((keys, ""));
        if public_key.is_empty() {
            return Err(ParseDsnError::PublicKey);
        }

        let path = path.trim_matches('/');
        let (prefix, project) = path.rsplit_once('/').unwrap_or(("", path));
        if project.is_empty() {
            return Err(ParseDsnError::ProjectIdMissing);
        }
        let project_id = decimal(project).ok_or(ParseDsnError::ProjectIdNotNumeric)?;
        let prefix = prefix.trim_end_matches('/');
        Ok(Self {
            scheme,
            public_key: public_key.to_owned(),
            secret_key: (!secret_key.is_empty()).then(|| secret_key.to_owned()),
            host,
            port: port.unwrap_or(scheme.port()),
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            project_id,
        })
    }
}

impl fmt::Display for Dsn {
    /// The DSN with its key as `***`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", self.origin("***@"), self.prefix, self.project_id)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("scheme", &format_args!("{}", self.scheme.as_str()))
            .field("key", &format_args!("***"))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("project_id", &self.project_id)
            .finish_non_exhaustive()
    }
}

/// Why a text is not a DSN. Says which part is wrong, and never what it was: that may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseDsnError {
    /// Not a URL: no `://`, a character that URLs have not, two `@`, or over 2,048 bytes.
    Unparsable,
    /// The scheme is neither `http` nor `https`.
    Scheme,
    /// There is no host, or it is neither a name, nor an IPv4 address, nor an IPv6 address in
    /// brackets.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// Nothing before the `@`, or no `@`.
    PublicKey,
    /// Nothing after the host.
    ProjectIdMissing,
    /// The last part of the path is not a decimal number (of at most 64 bits).
    ProjectIdNotNumeric,
}

impl fmt::Display for ParseDsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unparsable => "not a URL",
            Self::Scheme => "the scheme is neither http nor https",
            Self::Host => "the host is missing or malformed",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::PublicKey => "the public key is missing",
            Self::ProjectIdMissing => "the project id is missing",
            Self::ProjectIdNotNumeric => "the project id is not a number",
        })
    }
}

impl std::error::Error for ParseDsnError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("http") {
            Some(Self::Http)
        } else if text.eq_ignore_ascii_case("https") {
            Some(Self::Https)
        } else {
            None
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that names none.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Which half of `host[:port]` is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    Host,
    Port,
}

/// Reads `host[:port]`; the host comes back in lower case, an IPv6 address within its brackets.
///
/// A port left empty (`host:`) is an error: more likely a variable that was not set than a wish.
pub(crate) fn host_and_port(text: &str) -> Result<(String, Option<u16>), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(AddressError::Host)?;
        address.parse::<Ipv6Addr>().map_err(|_| AddressError::Host)?;
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return Err(AddressError::Host),
            port => port,
        };
        (format!("[{address}]"), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if !is_host_name(host) {
            return Err(AddressError::Host);
        }
        (host.to_owned(), port)
    };
    let port = match port {
        None => None,
        Some(digits) => match decimal(digits).and_then(|port| u16::try_from(port).ok()) {
            None | Some(0) => return Err(AddressError::Port),
            port => port,
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// A name or an IPv4 address: labels of letters, digits, `-` and `_`, none empty but for a final
/// dot.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.strip_suffix('.').unwrap_or(text).split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Only digits, and not too many: `u64::from_str` would let a sign through.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What may stand in a URL, less the comma, which would end the key in the auth header.
pub(crate) fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b',' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Far beyond any real DSN, and short enough for any server's header limit.
const LENGTH_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn url(text: &str) -> String {
        text.parse::<Dsn>().unwrap().envelope_url()
    }

    #[test]
    fn good_dsns_name_their_endpoint() {
        for (text, expected) in [
            ("https://key@sentry.io/1", "https://sentry.io/api/1/envelope/"),
            ("https://key@sentry.io:443/1", "https://sentry.io/api/1/envelope/"),
            ("https://key@sentry.io:80/1", "https://sentry.io:80/api/1/envelope/"),
            ("http://key@sentry.io:80/1", "http://sentry.io/api/1/envelope/"),
            ("HTTPS://key@Sentry.IO/1", "https://sentry.io/api/1/envelope/"),
            ("http://key:secret@localhost:9000/12", "http://localhost:9000/api/12/envelope/"),
            ("http://key:@localhost/12", "http://localhost/api/12/envelope/"),
            ("http://key@127.0.0.1:8969/1", "http://127.0.0.1:8969/api/1/envelope/"),
            ("http://key@[::1]:8969/1", "http://[::1]:8969/api/1/envelope/"),
            ("http://key@[2001:DB8::1]/1", "http://[2001:db8::1]/api/1/envelope/"),
            ("https://key@host/a/b/1", "https://host/a/b/api/1/envelope/"),
            ("https://key@host/1/", "https://host/api/1/envelope/"),
            ("https://key@host//1", "https://host/api/1/envelope/"),
            ("https://key@host/a//1", "https://host/a/api/1/envelope/"),
            ("https://key@host/1?x=/2#/3", "https://host/api/1/envelope/"),
            ("https://key@host/1#@evil/2", "https://host/api/1/envelope/"),
            ("https://key@host/at@sign/1", "https://host/at@sign/api/1/envelope/"),
            ("https://key@host./1", "https://host./api/1/envelope/"),
            ("https://key@my_host-1/007", "https://my_host-1/api/7/envelope/"),
            (" https://key@host/1\n", "https://host/api/1/envelope/"),
            ("https://k@h/18446744073709551615", "https://h/api/18446744073709551615/envelope/"),
        ] {
            assert_eq!(url(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bad_dsns_are_told_apart() {
        use ParseDsnError::*;
        for (text, expected) in [
            ("", Unparsable),
            ("nonsense", Unparsable),
            ("key@host/1", Unparsable),
            ("https:/key@host/1", Unparsable),
            ("https://key @host/1", Unparsable),
            ("https://key@host/1\r\nX-Evil: 1", Unparsable),
            ("https://k\0ey@host/1", Unparsable),
            ("https://schlüssel@host/1", Unparsable),
            ("https://key@evil.com@good.com/1", Unparsable),
            (r"https://key@good.com\@evil.com/1", Unparsable),
            (r"https://ke\y@host/1", Unparsable),
            ("https://key,sentry_secret=x@host/1", Unparsable),
            ("://key@host/1", Scheme),
            ("ftp://key@host/1", Scheme),
            ("httpss://key@host/1", Scheme),
            ("https://key@/1", Host),
            ("https://key@:443/1", Host),
            ("https://", Host),
            ("https:///1", Host),
            ("https://key@ho%73t/1", Host),
            ("https://key@.host/1", Host),
            ("https://key@a..b/1", Host),
            ("https://key@::1/1", Host),
            ("https://key@[::1/1", Host),
            ("https://key@[::g]/1", Host),
            ("https://key@[fe80::1%25eth0]/1", Host),
            ("https://key@[127.0.0.1]/1", Host),
            ("https://key@[::1]9/1", Host),
            ("https://key@[]/1", Host),
            ("https://key@host:/1", Port),
            ("https://key@host:0/1", Port),
            ("https://key@host:65536/1", Port),
            ("https://key@host:+80/1", Port),
            ("https://key@host:-1/1", Port),
            ("https://key@host:80:81/1", Port),
            ("https://key@host:99999999999999999999/1", Port),
            ("https://key@[::1]:x/1", Port),
            ("https://host/1", PublicKey),
            ("https://@host/1", PublicKey),
            ("https://:secret@host/1", PublicKey),
            ("https://host/key@1", PublicKey),
            ("https://key@host", ProjectIdMissing),
            ("https://key@host/", ProjectIdMissing),
            ("https://key@host//", ProjectIdMissing),
            ("https://key@host?/1", ProjectIdMissing),
            ("https://key@host/project", ProjectIdNotNumeric),
            ("https://key@host/1/project", ProjectIdNotNumeric),
            ("https://key@host/-1", ProjectIdNotNumeric),
            ("https://key@host/+1", ProjectIdNotNumeric),
            ("https://key@host/1.5", ProjectIdNotNumeric),
            ("https://key@host/18446744073709551616", ProjectIdNotNumeric),
        ] {
            assert_eq!(text.parse::<Dsn>(), Err(expected), "{text:?}");
        }
        let long = format!("https://{}@host/1", "k".repeat(LENGTH_MAX));
        assert_eq!(long.parse::<Dsn>(), Err(Unparsable));
    }

    #[test]
    fn parts_are_read() {
        let dsn: Dsn = "http://key:secret@O7.host:9000/prefix/42".parse().unwrap();
        assert_eq!(
            (dsn.scheme(), dsn.host(), dsn.port(), dsn.public_key(), dsn.project_id()),
            ("http", "o7.host", 9000, "key", 42)
        );
        assert_eq!("https://key@host/1".parse::<Dsn>().unwrap().port(), 443);
        assert_eq!(
            dsn.auth_header("hotspan/1"),
            "Sentry sentry_key=key, sentry_version=7, sentry_client=hotspan/1, sentry_secret=secret"
        );
    }

    #[test]
    fn organisations_are_read_from_the_first_label_only() {
        for (host, expected) in [
            ("o123.ingest.sentry.io", Some(123)),
            ("O123.ingest.de.sentry.io", Some(123)),
            ("o1.example", Some(1)),
            ("o1", None),
            ("o.example", None),
            ("o-1.example", None),
            ("o+1.example", None),
            ("x.o1.example", None),
            ("sentry.io", None),
            ("[::1]", None),
            ("o99999999999999999999.example", None),
        ] {
            let dsn = format!("https://key@{host}/1").parse::<Dsn>();
            assert_eq!(dsn.ok().and_then(|dsn| dsn.org_id()), expected, "{host}");
        }
    }

    #[test]
    fn keys_are_never_shown() {
        let dsn: Dsn = "https://k3y:s3cret@host/prefix/42".parse().unwrap();
        assert_eq!(dsn.to_string(), "https://***@host/prefix/42");
        for shown in [format!("{dsn:?}"), format!("{dsn:#?}"), dsn.to_string(), dsn.envelope_url()]
        {
            assert!(!shown.contains("k3y") && !shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("host") && shown.contains("42"), "{shown}");
        }
        let error = "https://k3y:s3cret@host/x".parse::<Dsn>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("k3y"));
    }
}
