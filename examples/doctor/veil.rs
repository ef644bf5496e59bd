//! What nobody may be shown, wherever it comes from.

use std::env;

/// Texts that are replaced wherever they stand.
pub(crate) struct Veil(Vec<String>);

/// Who may name a proxy, with a password.
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"];

impl Veil {
    /// The keys of a DSN, also of one that is none, and the passwords of the proxies.
    pub(crate) fn new(dsn: &str) -> Self {
        let proxies = PROXIES.into_iter().filter_map(|name| env::var(name).ok());
        let mut secrets: Vec<String> = user_of(dsn).split(':').map(str::to_owned).collect();
        for proxy in proxies {
            secrets.extend(user_of(&proxy).split_once(':').map(|(_, word)| word.to_owned()));
        }
        secrets.retain(|secret| !secret.is_empty());
        Self(secrets)
    }

    pub(crate) fn over(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| text.replace(secret, "***");
        self.0.iter().fold(text.to_owned(), hide)
    }
}

/// What stands before the last `@` of an address.
fn user_of(url: &str) -> &str {
    let (before, _) = url.rsplit_once('@').unwrap_or_default();
    before.split_once("://").map_or(before, |(_, user)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden_also_of_what_is_no_dsn() {
        for dsn in ["https://abc:def@host/1", "abc:def@host", "ftp://abc:def@host"] {
            let veil = Veil::new(dsn);
            assert_eq!(veil.over("x abc y def abc"), "x *** y *** ***", "{dsn}");
        }
        assert_eq!(Veil::new("https://host/1").over("abc"), "abc");
    }
}
