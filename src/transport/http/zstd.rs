//! zstd: a context that is made once and used again.

use zstd::bulk::Compressor;

/// The fastest of the usual levels: for spans it is smaller and quicker than gzip's.
const LEVEL: i32 = 1;

pub(super) struct Zstd(Option<Compressor<'static>>);

impl Zstd {
    pub(super) fn new() -> Self {
        // Fails where there is no memory; bodies then go as they are.
        Self(Compressor::new(LEVEL).ok())
    }

    /// Appends `body` as one frame to the empty `out`; false if that became no shorter.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(compressor) = &mut self.0 else { return false };
        // What does not fit into less than the body is no use. Pages that are not written to cost
        // nothing.
        out.reserve(body.len());
        compressor.compress_to_buffer(body, out).is_ok_and(|len| len < body.len())
    }
}
