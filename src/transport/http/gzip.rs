//! A gzip compressor that is made once and used again.

use std::fmt;

use flate2::{Compress, Compression, FlushCompress, Status};

/// The output grows by this much when it is too short.
const STEP: usize = 16 * 1024;

/// An output buffer that grew beyond this is freed after use.
const KEEP_MAX: usize = 256 * 1024;

pub(super) struct Gzip {
    compress: Compress,
    out: Vec<u8>,
}

impl Gzip {
    pub(super) fn new() -> Self {
        // Level 1, the fastest; 2^15 bytes of window, the most that gzip has.
        Self { compress: Compress::new_gzip(Compression::fast(), 15), out: Vec::new() }
    }

    /// `body` as one gzip member. Until the next call.
    pub(super) fn compress(&mut self, body: &[u8]) -> &[u8] {
        self.compress.reset();
        self.out.clear();
        self.out.shrink_to(KEEP_MAX);
        loop {
            // Spans shrink to about a fifth: most bodies take one round.
            self.out.reserve(STEP);
            #[expect(clippy::cast_possible_truncation, reason = "no more than body.len()")]
            let read = self.compress.total_in() as usize;
            let rest = body.get(read..).unwrap_or_default();
            match self.compress.compress_vec(rest, &mut self.out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return &self.out,
                // Out of room: a round with room always makes progress.
                Ok(Status::Ok | Status::BufError) => {}
                // Compressing has no error but a wrong order of calls. What was written is then no
                // gzip, and the server says so.
                Err(_) => return &self.out,
            }
        }
    }
}

impl fmt::Debug for Gzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gzip").field("capacity", &self.out.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
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

    #[test]
    fn one_compressor_serves_bodies_of_every_kind_in_turn() {
        let mut gzip = Gzip::new();
        for body in [
            b"".to_vec(),
            b"short".to_vec(),
            b"{\"op\":\"db\"},".repeat(1000),
            noise(STEP * 3 + 17),
            noise(1024 * 1024),
            b"after".to_vec(),
        ] {
            assert!(gunzip(gzip.compress(&body)) == body, "{} bytes", body.len());
        }
        assert!(gzip.out.capacity() <= KEEP_MAX + STEP);
    }

    #[test]
    fn the_buffer_is_used_again() {
        let mut gzip = Gzip::new();
        let body = b"{\"op\":\"db\"},".repeat(1000);
        let address = gzip.compress(&body).as_ptr();
        assert_eq!(gzip.compress(&body).as_ptr(), address);
    }
}
