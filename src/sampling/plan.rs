//! What is decided at the end.

/// What an end is looked at for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(u8);

impl Conditions {
    pub(crate) const SLOW: u8 = 1;
    pub(crate) const P99: u8 = 2;
    pub(crate) const FAILED: u8 = 4;
    pub(crate) const ASKED: u8 = 8;

    pub(crate) const fn new(bits: u8) -> Self {
        Self(bits)
    }
}
