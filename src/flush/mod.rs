//! Cold: runs in the flusher and uploader threads only.
pub(crate) mod envelope;
pub(crate) mod queue;
