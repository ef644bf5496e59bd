//! Cold: runs in the flusher and uploader threads only.
pub(crate) mod encode;
pub(crate) mod envelope;
pub(crate) mod limits;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod upload;
