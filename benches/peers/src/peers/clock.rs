//! The floor: the two reads of the clock that each span needs, and nothing else.

use std::hint::black_box;

use crate::peer::{Absent, Mode, Peer};
use crate::work::Work;

pub struct Clock(quanta::Clock);

impl Peer for Clock {
    fn start(mode: Mode) -> Result<Self, Absent> {
        match mode {
            Mode::Sampled => Ok(Self(quanta::Clock::new())),
            Mode::Proof => Err(Absent::NotOffered("it records nothing")),
            Mode::Unsampled | Mode::Off => Err(Absent::NotOffered("it has no switch")),
            Mode::Send(_) => Err(Absent::NotOffered("it sends nothing")),
        }
    }

    fn item(&self, work: Work, _: u64) {
        for _ in 0..work.spans() {
            black_box(self.0.raw());
            black_box(self.0.raw());
        }
    }

    fn settle(&self) {}
}
