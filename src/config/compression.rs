//! [`Compression`]: how bodies are packed.

use serde::Deserialize;

/// How the bodies of requests are compressed. In files: `"gzip"`, `"zstd"` or `"none"`.
///
/// What is small, or does not shrink, is sent as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compression {
    /// gzip, level 1: every server and every proxy takes it.
    #[default]
    Gzip,
    /// zstd, level 1: for batches both smaller and quicker than gzip. Needs the feature `zstd`, and
    /// a server that takes it: Relay does, Spotlight does not.
    Zstd,
    /// Not at all.
    None,
}
