//! gzip: a deflate stream that is made once and used again.

use flate2::{Compress, Compression, FlushCompress, Status};

/// The output grows by this much when it is too short.
pub(super) const STEP: usize = 16 * 1024;

pub(super) struct Gzip(Compress);

impl Gzip {
    pub(super) fn new() -> Self {
        // Level 1, the fastest; 2^15 bytes of window, the most that gzip has.
        Self(Compress::new_gzip(Compression::fast(), 15))
    }

    /// Appends `body` as one gzip member to the empty `out`; false if that became no shorter.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.reset();
        loop {
            // Spans shrink to about a tenth: most bodies take one round.
            out.reserve(STEP);
            #[expect(clippy::cast_possible_truncation, reason = "no more than body.len()")]
            let read = self.0.total_in() as usize;
            let rest = body.get(read..).unwrap_or_default();
            match self.0.compress_vec(rest, out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return out.len() < body.len(),
                // Out of room: a round with room always makes progress.
                Ok(Status::Ok | Status::BufError) if out.len() < body.len() => {}
                // No use; or an error, of which compressing has none but a wrong order of calls.
                _ => return false,
            }
        }
    }
}
