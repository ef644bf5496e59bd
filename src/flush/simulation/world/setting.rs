//! What threads set on spans: attributes of any kind, wishes, and what looks like records and is
//! none.

use fastrand::Rng;

use crate::shared::id::NameId;
use crate::shared::layout::{
    FOLDED, Kind, LIST, Scalar, Slot, attribute_header, flag, slots_for, turn,
};

use super::{Span, What, World};

impl World<'_> {
    /// Sets something on the span of a line.
    pub(super) fn set(&mut self, at: usize, line: usize, rng: &mut Rng) {
        let line = &mut self.threads[at].lines[line];
        let span = self.spans[line.span];
        if std::mem::take(&mut line.moved) {
            let slot = turn(span.key, self.transactions[span.transaction].root, self.ticks);
            let what = What::Turn { key: span.key, from: self.ticks };
            self.write(at, &[slot], span.transaction, what);
        }
        if span.is_root && rng.u32(..100) < self.trials / 4 {
            return self.ask(at, &span, rng);
        }
        let (slots, label) = self.attribute(&span, rng);
        let [_, _, _, value, ..] = slots[0];
        let failed = match slots[0][0] & 0xff {
            kind if kind == Kind::Status as u64 => Some(value != 0),
            kind if kind == Kind::HttpStatus as u64 => Some(value >= 400),
            _ => None,
        };
        let what = What::Attribute { key: span.key, label, failed };
        self.write(at, &slots, span.transaction, what);
    }

    /// Code asks for a root to be kept, or not to be.
    fn ask(&mut self, at: usize, span: &Span, rng: &mut Rng) {
        let keep = rng.bool();
        let header = attribute_header(Kind::Asked, Scalar::Bool as u8, 1, NameId::NONE);
        let slot = [header, span.key, span.key, u64::from(keep), 0, 0, 0, 0];
        // It takes a thread other than the one that holds it.
        if self.transactions[span.transaction].shared {
            self.write(at, &[slot], span.transaction, What::Asked { key: span.key, keep });
        }
    }

    /// An attribute of any kind, with a value of its own.
    fn attribute(&self, span: &Span, rng: &mut Rng) -> (Vec<Slot>, u64) {
        let value = self.ticks << 8 | 0x41;
        let name = self.names[rng.usize(..3)];
        let (text, number) = (Scalar::Text as u8, Scalar::U64 as u8);
        let list = number | LIST;
        let (kind, code, name, words, len) = match rng.u32(..9) {
            0 => (Kind::Tag, text, name, vec![0x3131_3131_3131_3130 + self.ticks % 10], 8),
            1 => (Kind::Tag, number, name, vec![value], 8),
            2 => (Kind::Data, Scalar::I64 as u8, name, vec![value], 8),
            3 => {
                let bits = (value as f64).to_bits();
                (Kind::Measurement, Scalar::F64 as u8, name, vec![bits, 0], 12)
            }
            4 => (Kind::Status, number, NameId::NONE, vec![rng.u64(..16)], 1),
            5 => (Kind::HttpStatus, number, NameId::NONE, vec![rng.u64(200..600)], 8),
            6 => (Kind::Description, text, NameId::INLINE, vec![0x4141_4141_4141_4141], 8),
            7 => (Kind::Data, list, name, vec![value; 5], 40),
            _ => {
                let mut words = vec![value; 5];
                for _ in 0..rng.usize(1..6) {
                    words.extend(self.decoy(rng));
                }
                words.truncate(words.len() - rng.usize(..8));
                let len = words.len() * 8;
                (Kind::Data, list, name, words, len)
            }
        };
        let header = attribute_header(kind, code, u16::try_from(len).unwrap(), name);
        let mut all = vec![header, span.key, self.transactions[span.transaction].root];
        all.extend(words);
        all.resize(slots_for(len) * 8, 0);
        let slots = all.chunks_exact(8).map(|slot| Slot::try_from(slot).unwrap()).collect();
        (slots, kind as u64 | u64::from(name.0) << 32)
    }

    /// The words of a continuation slot that looks like something else.
    fn decoy(&self, rng: &mut Rng) -> Slot {
        let transaction = &self.transactions[rng.usize(..self.transactions.len())];
        let key = self.spans[rng.usize(..self.spans.len())].key;
        let shared = u64::from(flag::SHARED) << 8;
        match rng.u32(..6) {
            0 => [Kind::Root as u64 | shared, transaction.root, transaction.root, 0, 0, 1, 0, 0],
            1 => [Kind::Root as u64, transaction.root, transaction.root, 0, 0, 1, 0, 0],
            2 => [Kind::Child as u64, key, transaction.root, 0, 0, 1, 0, 0],
            3 => turn(key, transaction.root, u64::MAX),
            4 => {
                let header = attribute_header(Kind::Data, Scalar::U64 as u8, 8, self.names[0]);
                [header | FOLDED, key, transaction.root, 0, 0, 1, 0, 0]
            }
            _ => {
                let header = attribute_header(Kind::Data, 5, 1000, self.names[0]);
                [header, key, transaction.root, 0, 0, 0, 0, 0]
            }
        }
    }
}
