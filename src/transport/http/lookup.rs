//! Host names to addresses, on the thread that sends, with a short memory.
//!
//! `ureq` asks before every request, also when it then uses a connection that is open; its own
//! resolver starts a thread for each question, which panics where threads have run out. This one
//! starts none. An address in the URL is taken as it is; a name is looked up by the operating
//! system, and the answer is used for a minute, or until a request fails.
//!
//! # Limits
//! The operating system's look-up knows no time-out: while it hangs, the uploader does. It is not
//! waited for at shutdown.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::shared::clock;

/// How long an answer is used.
const KEEP: Duration = Duration::from_secs(60);

/// A name has at most this many addresses that are tried; `ureq` has room for no more.
const ADDRESSES_MAX: usize = 16;

/// The last answer: an uploader talks to one host.
#[derive(Debug, Default)]
pub(super) struct LookupCache(Mutex<Option<Answer>>);

#[derive(Debug)]
struct Answer {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    until: Duration,
}

impl LookupCache {
    /// The next question goes to the operating system.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn addresses(
        &self,
        host: &str,
        port: u16,
        now: Duration,
        ask: impl FnOnce() -> std::io::Result<Vec<SocketAddr>>,
        found: impl FnMut(SocketAddr),
    ) -> std::io::Result<()> {
        let known = self
            .lock()
            .take()
            .filter(|answer| answer.host == host && answer.port == port && now < answer.until);
        let answer = match known {
            Some(answer) => answer,
            None => {
                let (addresses, until) = (ask()?, now.saturating_add(KEEP));
                Answer { host: host.to_owned(), port, addresses, until }
            }
        };
        answer.addresses.iter().copied().take(ADDRESSES_MAX).for_each(found);
        *self.lock() = Some(answer);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Lookup(pub(super) Arc<LookupCache>);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default));
        let mut addresses = self.empty();
        if let Ok(literal) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            addresses.push(SocketAddr::new(literal, port));
            return Ok(addresses);
        }
        let ask = || {
            let all = (host, port).to_socket_addrs()?;
            Ok(config.ip_family().keep_wanted(all).collect())
        };
        self.0.addresses(host, port, clock::monotonic(), ask, |each| addresses.push(each))?;
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_answer_is_used_for_a_minute_and_for_its_host_only() {
        let cache = LookupCache::default();
        let asked = std::cell::Cell::new(0_u8);
        let ask = |host: &str, seconds: u64| {
            let mut found = Vec::new();
            let question = || {
                asked.set(asked.get() + 1);
                Ok(vec![SocketAddr::from(([10, 0, 0, asked.get()], 1))])
            };
            let now = Duration::from_secs(seconds);
            cache.addresses(host, 1, now, question, |each| found.push(each)).unwrap();
            let [SocketAddr::V4(address)] = found[..] else { panic!("{found:?}") };
            address.ip().octets()[3]
        };
        assert_eq!(ask("a", 0), 1);
        assert_eq!(ask("a", 59), 1);
        assert_eq!(ask("a", 60), 2);
        assert_eq!(ask("b", 61), 3);
        assert_eq!(ask("a", 62), 4);
        cache.forget();
        assert_eq!(ask("a", 63), 5);
    }

    #[test]
    fn an_error_is_not_remembered() {
        let cache = LookupCache::default();
        let fail = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(cache.addresses("a", 1, Duration::ZERO, fail, |_| {}).is_err());
        let mut found = 0;
        let answer = || Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1)); 40]);
        cache.addresses("a", 1, Duration::ZERO, answer, |_| found += 1).unwrap();
        assert_eq!(found, ADDRESSES_MAX);
    }
}
