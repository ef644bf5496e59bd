//! What a recorder has to offer to be measured.

use std::fmt;
use std::str::FromStr;

use crate::work::Work;

/// A recorder, set up for one [`Mode`]. There is one in a process.
pub trait Peer: Sized + Sync {
    /// Sets the recorder up, as its documentation recommends for this use.
    ///
    /// # Errors
    /// [`Absent`]: it has nothing like this mode, or could not be set up.
    fn start(mode: Mode) -> Result<Self, Absent>;

    /// Records one item: a root with the children that `work` says.
    ///
    /// `n` is its number, which goes into an attribute.
    fn item(&self, work: Work, n: u64);

    /// Waits until what was recorded is exported, or ten seconds are over.
    fn settle(&self);

    /// Spans that reached the exporter, as it counted them itself; `None` if it did not count.
    fn delivered(&self) -> Option<u64> {
        None
    }

    /// Spans that were taken where they were sent to, by the recorder's own books, if it keeps any.
    fn booked(&self) -> Option<u64> {
        None
    }

    /// What is wrong with those books.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// What a recorder is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything is recorded and goes to an exporter that throws it away.
    Sampled,
    /// The same, and what arrives there is looked at: that it is really recorded.
    Proof,
    /// Set up, and sampling leaves everything out.
    Unsampled,
    /// Compiled in, and not set up.
    Off,
    /// Everything is recorded and sent over HTTP to this port on loopback.
    Send(u16),
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Sampled, Self::Proof, Self::Unsampled, Self::Off];
        let send = || text.strip_prefix("send:")?.parse().ok().map(Self::Send);
        let named = known.into_iter().find(|mode| mode.to_string() == text);
        named.or_else(send).ok_or_else(|| format!("no mode is called {text:?}"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampled => f.write_str("sampled"),
            Self::Proof => f.write_str("proof"),
            Self::Unsampled => f.write_str("unsampled"),
            Self::Off => f.write_str("off"),
            Self::Send(port) => write!(f, "send:{port}"),
        }
    }
}

/// Why a recorder is not there.
#[derive(Debug)]
pub enum Absent {
    /// It has no such mode, for this reason.
    NotOffered(&'static str),
    /// It could not be set up.
    Failed(Box<dyn std::error::Error>),
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Absent {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
