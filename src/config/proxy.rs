//! The proxy in front of the server: which one is asked for, and whether this host goes through it.
//!
//! An explicit setting beats the environment. For an `https` DSN the `https` proxy is asked first
//! and the `http` one next; for an `http` DSN only the latter. The list of exceptions is the
//! environment's, and so concerns the proxies from there; only a list that is set explicitly
//! concerns explicit proxies too.

use std::fmt;

use super::Config;
use super::resolve::{Environment, Setting};
use crate::dsn::{Dsn, Scheme, host_and_port, is_url_byte};
use crate::error::ConfigError;

/// The address of a proxy, checked; may hold a password, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    url: String,
    /// Without the user.
    shown: String,
}

impl Proxy {
    /// `scheme://[user:password@]host:port`, for the HTTP client alone.
    #[cfg(any(feature = "http", test))]
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is reached by TLS.
    pub(super) fn is_https(&self) -> bool {
        self.shown.starts_with("https:")
    }

    /// Reads `[scheme://][user[:password]@]host[:port][/]`; `None` if it is none of that.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        if text.len() > LENGTH_MAX || !text.bytes().all(|byte| is_url_byte(byte) || byte == b',') {
            return None;
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = Scheme::parse(scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        if user.is_some_and(|user| user.contains(['/', '?', '#', '@'])) {
            return None;
        }
        let (host, port) = host_and_port(address).ok()?;
        let port = port.unwrap_or(scheme.port());
        let scheme = scheme.as_str();
        Some(Self {
            url: match user {
                Some(user) => format!("{scheme}://{user}@{host}:{port}"),
                None => format!("{scheme}://{host}:{port}"),
            },
            shown: format!("{scheme}://{host}:{port}"),
        })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.shown)
    }
}

/// The proxy for this DSN, if it goes through one.
pub(super) fn choose(
    config: &Config,
    dsn: &Dsn,
    env: &Environment<'_>,
) -> Result<Option<Proxy>, ConfigError> {
    let http_setting = || {
        // Under CGI, HTTP_PROXY is the client's header `Proxy:`.
        let upper = if env.read("REQUEST_METHOD").is_some() { None } else { Some("HTTP_PROXY") };
        let names = ["http_proxy"].into_iter().chain(upper);
        env.first("http_proxy", config.http_proxy.as_deref(), names)
    };
    let setting = if dsn.scheme() == Scheme::Https.as_str() {
        let names = ["https_proxy", "HTTPS_PROXY"];
        match env.first("https_proxy", config.https_proxy.as_deref(), names) {
            // An explicit "none" ends the search.
            Some(setting) => Some(setting),
            None => http_setting(),
        }
    } else {
        http_setting()
    };
    let Some(setting) = setting.filter(|setting| !setting.value.trim_ascii().is_empty()) else {
        return Ok(None);
    };
    let exceptions = env.first("no_proxy", config.no_proxy.as_deref(), ["no_proxy", "NO_PROXY"]);
    if let Some(exceptions) = exceptions
        && (setting.variable.is_some() || exceptions.variable.is_none())
        && is_exception(&exceptions.value, dsn)
    {
        return Ok(None);
    }
    let Setting { field, variable, value } = setting;
    let malformed = || {
        ConfigError::malformed(field, "expected http://[USER:PASSWORD@]HOST[:PORT] or https://…")
            .with_variable(variable)
    };
    let proxy = Proxy::parse(&value).ok_or_else(malformed)?;
    if proxy.is_https() && !cfg!(feature = "rustls") {
        let needed = "a proxy over https needs the feature `rustls`";
        return Err(ConfigError::unsupported(field, needed).with_variable(variable));
    }
    Ok(Some(proxy))
}

/// Whether a list of hosts, some with a port, covers the DSN's host.
fn is_exception(list: &str, dsn: &Dsn) -> bool {
    let host = dsn.host();
    let bare = host.trim_start_matches('[').trim_end_matches([']', '.']);
    list.split([',', ' ']).map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        if entry == "*" {
            return true;
        }
        let is_bare_ipv6 = !entry.starts_with('[') && entry.matches(':').count() > 1;
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !is_bare_ipv6 && !port.ends_with(']') => (name, Some(port)),
            _ => (entry.as_str(), None),
        };
        if port.is_some_and(|port| port.parse() != Ok(dsn.port())) {
            return false;
        }
        let name = name.trim_start_matches("*.").trim_start_matches(['.', '[']);
        let name = name.trim_end_matches([']', '.']);
        match bare.strip_suffix(name) {
            Some(above) => !name.is_empty() && (above.is_empty() || above.ends_with('.')),
            None => false,
        }
    })
}

const LENGTH_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_and_passwords_hidden() {
        for (text, expected) in [
            ("http://proxy:3128", Some("http://proxy:3128")),
            ("proxy:3128", Some("http://proxy:3128")),
            ("proxy", Some("http://proxy:80")),
            ("https://proxy", Some("https://proxy:443")),
            ("HTTP://Proxy/", Some("http://proxy:80")),
            ("http://user:p%40ss,word@proxy:1", Some("http://user:p%40ss,word@proxy:1")),
            ("http://[::1]:3128", Some("http://[::1]:3128")),
            (" proxy:3128\n", Some("http://proxy:3128")),
            ("socks5://proxy:1080", None),
            ("http://", None),
            ("http://user:password@", None),
            ("http://proxy:x", None),
            ("http://proxy:", None),
            ("http://proxy/path", None),
            ("http://us/er@proxy", None),
            ("http://a@b@proxy", None),
            ("http://pro xy", None),
            ("http://proxy\r\nx", None),
        ] {
            let proxy = Proxy::parse(text);
            assert_eq!(proxy.as_ref().map(Proxy::url), expected, "{text:?}");
            assert!(!format!("{proxy:?}").contains("word"), "{text:?}");
        }
    }

    #[test]
    fn exceptions_match_whole_labels_and_ports() {
        let dsn: Dsn = "https://key@o1.ingest.example.com/1".parse().unwrap();
        for (list, expected) in [
            ("example.com", true),
            (".example.com", true),
            ("*.example.com", true),
            ("EXAMPLE.com", true),
            ("o1.ingest.example.com", true),
            ("other, example.com", true),
            ("other example.com", true),
            ("example.com:443", true),
            ("example.com:8443", false),
            ("example.com:", false),
            ("*", true),
            ("ample.com", false),
            ("example", false),
            ("x.o1.ingest.example.com", false),
            ("", false),
            (",,", false),
            (".", false),
            ("::1", false),
        ] {
            assert_eq!(is_exception(list, &dsn), expected, "{list:?}");
        }
        let dsn: Dsn = "http://key@[::1]:8080/1".parse().unwrap();
        for (list, expected) in [
            ("::1", true),
            ("[::1]", true),
            ("[::1]:8080", true),
            ("[::1]:80", false),
            ("::2", false),
        ] {
            assert_eq!(is_exception(list, &dsn), expected, "{list:?}");
        }
    }
}
