//! [`Compressor`]: what the transport does to bodies, for those who send them in a way of their
//! own.

use std::fmt;

use super::gzip::Gzip;
use super::options::HttpError;
#[cfg(feature = "zstd")]
use super::zstd::Zstd;
use crate::config::Compression;

/// Bodies up to this size are sent as they are: one packet either way.
const PLAIN_MAX: usize = 1024;

/// An output buffer that grew beyond this is freed before the next use.
const KEEP_MAX: usize = 256 * 1024;

/// Compresses bodies as [`Http`](super::Http) does, which has one: for a transport of one's own,
/// and for measuring.
///
/// It allocates nothing before the first body that is large enough to be compressed, and then its
/// state (gzip: about 250 KiB; zstd: up to about 1 MiB, by the largest body so far) and a buffer
/// for what comes out, of which it keeps 256 KiB. Both are used again.
///
/// ```
/// use hotspan::{Compression, transport::Compressor};
///
/// let mut compressor = Compressor::new(Compression::Gzip)?;
/// let body = "{\"op\":\"db.query\"},".repeat(1000);
/// let (bytes, encoding) = compressor.compress(body.as_bytes());
/// assert!(bytes.len() < body.len() / 10 && encoding == Some("gzip"));
///
/// let (bytes, encoding) = compressor.compress(b"{}");
/// assert_eq!((bytes, encoding), (&b"{}"[..], None));
/// # Ok::<(), hotspan::transport::HttpError>(())
/// ```
pub struct Compressor {
    compression: Compression,
    codec: Option<Codec>,
    out: Vec<u8>,
}

enum Codec {
    Gzip(Gzip),
    #[cfg(feature = "zstd")]
    Zstd(Zstd),
}

impl Compressor {
    /// A compressor of this kind; [`Compression::Auto`] is gzip here, as there is no server yet.
    ///
    /// # Errors
    /// When the build lacks the feature for it.
    pub fn new(compression: Compression) -> Result<Self, HttpError> {
        if compression == Compression::Zstd && !cfg!(feature = "zstd") {
            return Err(HttpError::unsupported("compression", "zstd needs the feature `zstd`"));
        }
        Ok(Self::supported(compression))
    }

    /// One like this, with a state of its own that is not made yet.
    pub(super) fn another(&self) -> Self {
        Self::supported(self.compression)
    }

    fn supported(compression: Compression) -> Self {
        Self { compression, codec: None, out: Vec::new() }
    }

    /// The bytes to send for `body`, and the `Content-Encoding` to send them under, if any: without
    /// one they are `body` itself, which is too small (up to 1 KiB), or did not become smaller.
    pub fn compress<'a>(&'a mut self, body: &'a [u8]) -> (&'a [u8], Option<&'static str>) {
        if body.len() <= PLAIN_MAX {
            return (body, None);
        }
        if self.codec.is_none() {
            self.codec = match self.compression {
                Compression::Auto | Compression::Gzip => Some(Codec::Gzip(Gzip::new())),
                #[cfg(feature = "zstd")]
                Compression::Zstd => Some(Codec::Zstd(Zstd::new())),
                #[cfg(not(feature = "zstd"))]
                Compression::Zstd => None,
                Compression::None => None,
            };
        }
        self.out.clear();
        self.out.shrink_to(KEEP_MAX);
        let (is_smaller, encoding) = match &mut self.codec {
            Some(Codec::Gzip(gzip)) => (gzip.compress(body, &mut self.out), "gzip"),
            #[cfg(feature = "zstd")]
            Some(Codec::Zstd(zstd)) => (zstd.compress(body, &mut self.out), "zstd"),
            None => return (body, None),
        };
        if is_smaller { (&self.out, Some(encoding)) } else { (body, None) }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("compression", &self.compression)
            .field("capacity", &self.out.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::gzip::STEP;
    use super::*;

    fn unpacked(bytes: &[u8], encoding: Option<&str>) -> Vec<u8> {
        match encoding {
            None => bytes.to_vec(),
            Some("gzip") => {
                let mut out = Vec::new();
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
                out
            }
            #[cfg(feature = "zstd")]
            Some("zstd") => zstd::decode_all(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn kinds() -> impl Iterator<Item = Compression> {
        let all = [Compression::None, Compression::Gzip, Compression::Zstd];
        all.into_iter().filter(|kind| cfg!(feature = "zstd") || *kind != Compression::Zstd)
    }

    #[test]
    fn one_compressor_serves_bodies_of_every_kind_in_turn() {
        for kind in kinds() {
            let mut compressor = Compressor::new(kind).unwrap();
            for (body, shrinks) in [
                (b"".to_vec(), false),
                (vec![b'x'; PLAIN_MAX], false),
                (vec![b'x'; PLAIN_MAX + 1], true),
                (b"{\"op\":\"db\"},".repeat(1000), true),
                (noise(STEP * 3 + 17), false),
                ([noise(STEP * 3), vec![0; STEP]].concat(), true),
                (noise(1024 * 1024), false),
                (b"{\"op\":\"db.query\",\"status\":\"ok\"},".repeat(40_000), true),
                (noise(2 * PLAIN_MAX), false),
                (b"after".repeat(1000), true),
            ] {
                let (bytes, encoding) = compressor.compress(&body);
                let expected = shrinks && kind != Compression::None;
                assert_eq!(encoding.is_some(), expected, "{kind:?}: {} bytes", body.len());
                assert!(bytes.len() <= body.len());
                assert!(unpacked(bytes, encoding) == body, "{kind:?}: {} bytes", body.len());
            }
            assert!(compressor.out.capacity() <= KEEP_MAX + STEP);
        }
    }

    #[test]
    fn the_buffer_is_used_again() {
        let body = b"{\"op\":\"db\"},".repeat(1000);
        for kind in kinds() {
            let mut compressor = Compressor::new(kind).unwrap();
            let address = compressor.compress(&body).0.as_ptr();
            assert_eq!(compressor.compress(&body).0.as_ptr(), address, "{kind:?}");
        }
    }

    #[test]
    fn nothing_is_made_before_it_is_needed() {
        for kind in kinds() {
            let mut compressor = Compressor::new(kind).unwrap();
            compressor.compress(b"small");
            assert!(compressor.codec.is_none() && compressor.out.capacity() == 0);
        }
    }

    #[test]
    #[cfg(not(feature = "zstd"))]
    fn zstd_needs_its_feature() {
        let error = Compressor::new(Compression::Zstd).unwrap_err();
        assert!(error.is_unsupported() && error.to_string().contains("`zstd`"), "{error}");
    }
}
