//! [`Compression`]: how bodies are packed.

use serde::Deserialize;

/// How the bodies of requests are compressed. In files: `"auto"`, `"gzip"`, `"zstd"` or `"none"`.
///
/// What is small (up to 1 KiB), or does not shrink, is sent as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compression {
    /// [`Gzip`](Self::Gzip), but [`None`](Self::None) to a server on this machine: one whose host
    /// is a loopback address, `localhost` or a name under it, and that is reached without a proxy.
    /// There is no wire to spare then, and compressing is a third of what delivering costs. Where
    /// such an address is one end of a tunnel, say [`Gzip`](Self::Gzip).
    #[default]
    Auto,
    /// gzip, level 1: every server and every proxy takes it.
    Gzip,
    /// zstd, level 1: for batches both smaller and quicker than gzip. Needs the feature `zstd`, and
    /// a server that takes it: Relay does, Spotlight does not.
    Zstd,
    /// Not at all.
    None,
}
