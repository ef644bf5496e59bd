//! Host names to addresses, with a short memory, and without waiting for longer than may be waited.
//!
//! `ureq` asks before every request, also when it then uses a connection that is open; its own
//! resolver starts a thread for each question, which panics where threads have run out, and leaves
//! one behind for each question that hangs. Here a name is asked for once, however many uploaders
//! want it, on a thread that lives as long as the question; an address in the URL is taken as it
//! is.
//!
//! # Invariants
//! * L1: at most one question is under way, and so there is at most one thread: one that hangs
//!   costs that thread, and whoever comes later finds it hanging and starts no other.
//! * L2: nobody waits for longer than the smaller of what connecting may take and what is left of
//!   the request; an answer that comes later is there for the next.
//! * L3: an answer is used for [`KEEP`], or until a request fails. After that it is *old*: it is
//!   used once more where asking anew fails or hangs, for a name service that is out of order
//!   should not stop what needs no new address.
//!
//! # Limits
//! That an old answer was used is not counted: whether the address is still good shows in whether
//! the server is reached. A question that hangs is asked again only when it has come back.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{error, fmt, io, thread};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::shared::clock;

/// How long an answer is used.
const KEEP: Duration = Duration::from_secs(60);

/// How long an old answer is used after asking anew has failed, before that is tried again.
const KEEP_OLD: Duration = Duration::from_secs(5);

/// A name has at most this many addresses that are tried; `ureq` has room for no more.
const ADDRESSES_MAX: usize = 16;

/// At most 15 bytes: that is what Linux keeps.
const THREAD_NAME: &str = "hotspan-lookup";
const STACK_BYTES: usize = 512 * 1024;

/// From a name and a port to addresses; may block.
pub(super) type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Asks the operating system.
pub(super) fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// What is known, and what is being asked for; shared by all clones of a transport.
pub(super) struct Names {
    look_up: Arc<LookUp>,
    /// What connecting may take.
    wait_max: Duration,
    state: Mutex<State>,
    /// Signalled when a question has come back.
    came_back: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The last answer: uploaders talk to one host.
    answer: Option<Answer>,
    /// Since when a question is under way.
    asking: Option<Duration>,
    /// How many questions have come back.
    rounds: u64,
    /// What the last of them came back with, if it was no answer.
    failure: Option<(Place, String)>,
    is_closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
}

#[derive(Debug)]
struct Answer {
    place: Place,
    addresses: Vec<SocketAddr>,
    /// Old from then on.
    until: Duration,
}

impl State {
    fn known(&self, place: &Place) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| answer.place == *place)
    }

    /// The addresses, however old; else the error.
    fn old(&self, place: &Place, error: LookUpError) -> Result<Vec<SocketAddr>, LookUpError> {
        self.known(place).map(|answer| answer.addresses.clone()).ok_or(error)
    }
}

impl Names {
    pub(super) fn new(look_up: Arc<LookUp>, wait_max: Duration) -> Self {
        Self { look_up, wait_max, state: Mutex::default(), came_back: Condvar::new() }
    }

    /// The next request asks anew.
    pub(super) fn doubt(&self) {
        if let Some(answer) = &mut self.lock().answer {
            answer.until = Duration::ZERO;
        }
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.came_back.notify_all();
    }

    fn addresses(
        self: &Arc<Self>,
        place: &Place,
        wait: Duration,
    ) -> Result<Vec<SocketAddr>, LookUpError> {
        let began = clock::monotonic();
        let mut state = self.lock();
        let rounds = state.rounds;
        loop {
            let now = clock::monotonic();
            if state.is_closed {
                return Err(LookUpError::Closed);
            }
            let known = state.known(place);
            if let Some(answer) = known.filter(|answer| now < answer.until) {
                return Ok(answer.addresses.clone());
            }
            let has_old = known.is_some();
            if state.rounds != rounds
                && let Some((_, text)) = state.failure.as_ref().filter(|(of, _)| of == place)
            {
                return Err(LookUpError::Failed(text.clone()));
            }
            // L1.
            let since = match state.asking {
                Some(since) => since,
                None => match self.ask(place.clone()) {
                    Ok(()) => *state.asking.insert(now),
                    Err(error) => return state.old(place, LookUpError::Thread(error)),
                },
            };
            // L2. A question that hangs is waited for once, if there is something to go on with.
            let mut until = began.saturating_add(wait.min(self.wait_max));
            if has_old {
                until = until.min(since.saturating_add(self.wait_max));
            }
            let left = until.saturating_sub(now);
            if left.is_zero() {
                return state.old(place, LookUpError::Late);
            }
            let (again, _) =
                self.came_back.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = again;
        }
    }

    /// Starts the thread. The state is locked by the caller, so that it has not come back yet.
    fn ask(self: &Arc<Self>, place: Place) -> io::Result<()> {
        let names = Arc::clone(self);
        let builder = thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || names.come_back(place)).map(drop)
    }

    /// The thread.
    fn come_back(&self, place: Place) {
        let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&place.host, place.port)));
        let found = match found {
            Ok(Ok(addresses)) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(payload) => {
                #[expect(clippy::mem_forget, reason = "its drop is a stranger's, and may panic")]
                std::mem::forget(payload);
                Err("the look-up panicked".to_owned())
            }
        };
        let now = clock::monotonic();
        let mut state = self.lock();
        state.asking = None;
        state.rounds += 1;
        match found {
            Ok(mut addresses) => {
                addresses.truncate(ADDRESSES_MAX);
                let until = now.saturating_add(KEEP);
                state.failure = None;
                state.answer = Some(Answer { place, addresses, until });
            }
            Err(text) => {
                // L3.
                if let Some(answer) = state.answer.as_mut().filter(|answer| answer.place == place) {
                    answer.until = now.saturating_add(KEEP_OLD);
                }
                state.failure = Some((place, text));
            }
        }
        drop(state);
        self.came_back.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Why there is no address.
#[derive(Debug)]
pub(super) enum LookUpError {
    Failed(String),
    /// It has not come back in time.
    Late,
    Thread(io::Error),
    /// The transport was broken off.
    Closed,
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => write!(f, "the host's name was not resolved: {text}"),
            Self::Late => f.write_str("the look-up of the host's name did not come back in time"),
            Self::Thread(error) => write!(f, "no thread for looking up the host's name: {error}"),
            Self::Closed => f.write_str("broken off while the host's name was looked up"),
        }
    }
}

impl error::Error for LookUpError {}

/// What `ureq` asks.
#[derive(Clone, Debug)]
pub(super) struct Lookup(pub(super) Arc<Names>);

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default));
        let mut addresses = self.empty();
        if let Ok(literal) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            addresses.push(SocketAddr::new(literal, port));
            return Ok(addresses);
        }
        let place = Place { host: host.to_owned(), port };
        let found = self.0.addresses(&place, *timeout.after);
        let found = found.map_err(|error| ureq::Error::Other(Box::new(error)))?;
        found.into_iter().for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests;
