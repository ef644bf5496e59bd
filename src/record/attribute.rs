//! Writing tags, data and the rest of what a span carries: each a slot, or a few in a row.

use crate::propagate::pieces;
use crate::shared::clock;
use crate::shared::id::NameId;
use crate::shared::layout::{
    AtomicSlot, CUT, INLINE_BYTES, Kind, Scalar, Slot, VALUE_MAX, WORDS, attribute_header, bounded,
    is_folded, kind_and_name, one_word, put_attribute, slots_for, turn, two_words, with_len, words,
};
use crate::shared::payload::Link;
use crate::shared::registry::Lane;
use crate::shared::seqlock::meta;
use crate::shared::settings::SETTINGS;
use crate::shared::sync::Ordering;
use crate::shared::traces::Continued;
use crate::status::SpanStatus;
use crate::value::Value;

use super::fold::{HOLDS_NONE, fold, hold_none, is_free};
use super::handle::{FROZEN_SHIFT, Handle, is_live};
use super::local::{LOCAL, Local};
use super::payload::Payload;

/// Writes the status: one byte.
#[inline]
pub(crate) fn status(handle: Handle, status: SpanStatus) {
    outcome(handle, Kind::Status, 1, status as u64, status == SpanStatus::Ok);
}

/// Writes an HTTP status code: one word.
#[inline]
pub(crate) fn http_status(handle: Handle, code: u16) {
    let is_ok = SpanStatus::from_http(code) == SpanStatus::Ok;
    outcome(handle, Kind::HttpStatus, 8, u64::from(code), is_ok);
}

#[inline]
fn outcome(handle: Handle, kind: Kind, len: u16, word: u64, is_ok: bool) {
    if handle.is_recording() {
        let header = attribute_header(kind, Scalar::U64 as u8, len, NameId::NONE);
        let _ = LOCAL.try_with(|local| outcome_in(local, handle, header, word, is_ok));
    }
}

/// How a span fares: an attribute, and for a planned root a bit. (How this is cut into functions:
/// `open.rs`.)
#[inline(never)]
fn outcome_in(local: &Local, handle: Handle, header: u64, word: u64, is_ok: bool) {
    let Some(lane) = local.enter() else { return local.reentered_attribute() };
    let Some((slot, line)) = local.attribute_slot(lane, handle) else {
        local.leave(lane);
        return outcome_slowly(handle, header, word, is_ok);
    };
    let [.., to_word, _, _, _, _] = slot;
    put_attribute(slot, header, line, &[]);
    to_word.store(word, Ordering::Relaxed);
    local.writer.took_slot();
    let [.., bits, _, _] = line;
    if bits.load(Ordering::Relaxed) & meta::PLANNED != 0 {
        local.note_status(lane, handle, is_ok);
    }
    local.leave(lane);
}

#[inline(never)]
fn outcome_slowly(handle: Handle, header: u64, word: u64, is_ok: bool) {
    write(handle, |local, lane| {
        local.one_slot(lane, handle, header, [word, 0, 0, 0, 0]);
        local.note_status(lane, handle, is_ok);
    });
}

/// Writes a measurement: the number, then the unit's name.
pub(crate) fn measurement(handle: Handle, name: NameId, text: &str, value: f64, unit: NameId) {
    let code = Scalar::F64 as u8;
    if name != NameId::INLINE {
        let header = attribute_header(Kind::Measurement, code, 12, name);
        let (value, unit) = (value.to_bits(), u64::from(unit.0));
        let _ = LOCAL.try_with(|local| words_in_slot(local, handle, header, value, unit));
        return;
    }
    write(handle, |local, lane| {
        let mut payload = Payload::new();
        payload.name(text);
        payload.push(&value.to_le_bytes());
        payload.push(&unit.0.to_le_bytes());
        local.bytes(lane, handle, Kind::Measurement, code, name, payload.bytes());
    });
}

/// Writes one attribute of an open span.
#[inline(always)]
pub(crate) fn attribute(handle: Handle, kind: Kind, name: NameId, value: Value<'_>) {
    // The type of a value is known where this is inlined: one of these calls remains, with all of
    // the header but the name's number a constant.
    let scalar = |scalar: Scalar, value| {
        #[expect(clippy::cast_possible_truncation, reason = "widths are at most 16")]
        let header = attribute_header(kind, scalar as u8, scalar.width() as u16, name);
        let _ = LOCAL.try_with(|local| word(local, handle, header, value));
    };
    match value {
        Value::Bool(value) => scalar(Scalar::Bool, u64::from(value)),
        Value::I64(value) => scalar(Scalar::I64, value.cast_unsigned()),
        Value::U64(value) => scalar(Scalar::U64, value),
        Value::F64(value) => scalar(Scalar::F64, value.to_bits()),
        Value::Text(value) => {
            let header = attribute_header(kind, Scalar::Text as u8, 0, name);
            let _ = LOCAL.try_with(|local| text(local, handle, header, value));
        }
        value => other(handle, kind, name, value),
    }
}

/// A value of one word. (How this is cut into functions: `open.rs`.)
#[inline(never)]
fn word(local: &Local, handle: Handle, header: u64, word: u64) {
    let Some(lane) = local.enter() else { return local.reentered_attribute() };
    let Some((line, bits)) = usual(lane, handle) else {
        return word_slowly(local, handle, header, word, lane);
    };
    if bits & HOLDS_NONE == 0 {
        if !is_free(line) {
            return word_behind(local, handle, header, word, lane);
        }
        fold(line, header, word);
    } else {
        let Some(slot) = local.writer.next_slot() else {
            return word_slowly(local, handle, header, word, lane);
        };
        put_attribute(slot, header, line, &word.to_le_bytes());
        local.writer.took_slot();
    }
    local.leave(lane);
}

/// A value of one word on a span in whose line another one waits. Leaves the lane.
#[inline(never)]
fn word_behind(local: &Local, handle: Handle, header: u64, word: u64, lane: &'static Lane) {
    let line = lane.spans.at(handle.depth());
    if !local.put_waiting(line) {
        return word_slowly(local, handle, header, word, lane);
    }
    fold(line, header, word);
    local.leave(lane);
}

/// A text, to whose header its length is added.
#[inline(never)]
fn text(local: &Local, handle: Handle, header: u64, text: &str) {
    if text.len() > INLINE_BYTES {
        return long_text(handle, header, text);
    }
    let bytes = text.as_bytes();
    let header = with_len(header, bytes.len());
    match bytes.len() {
        0..=8 => word(local, handle, header, one_word(bytes)),
        9..=16 => {
            let (first, second) = two_words(bytes);
            words_in_slot(local, handle, header, first, second);
        }
        _ => text_in_slot(local, handle, header, bytes),
    }
}

/// A text of two words.
#[inline(never)]
fn words_in_slot(local: &Local, handle: Handle, header: u64, first: u64, second: u64) {
    let Some(lane) = local.enter() else { return local.reentered_attribute() };
    let Some((slot, line)) = local.attribute_slot(lane, handle) else {
        local.leave(lane);
        return words_slowly(local, handle, header, first, second);
    };
    let [.., to_first, to_second, _, _, _] = slot;
    put_attribute(slot, header, line, &[]);
    to_first.store(first, Ordering::Relaxed);
    to_second.store(second, Ordering::Relaxed);
    local.writer.took_slot();
    local.leave(lane);
}

/// A text of more.
#[inline(never)]
fn text_in_slot(local: &Local, handle: Handle, header: u64, text: &[u8]) {
    let Some(lane) = local.enter() else { return local.reentered_attribute() };
    let Some((slot, line)) = local.attribute_slot(lane, handle) else {
        return local.one_slot_slowly(lane, handle, header, words(text));
    };
    put_attribute(slot, header, line, text);
    local.writer.took_slot();
    local.leave(lane);
}

/// Leaves the lane.
#[inline(never)]
fn word_slowly(local: &Local, handle: Handle, header: u64, word: u64, lane: &'static Lane) {
    local.one_slot_slowly(lane, handle, header, [word, 0, 0, 0, 0]);
}

#[inline(never)]
fn words_slowly(local: &Local, handle: Handle, header: u64, first: u64, second: u64) {
    if let Some(lane) = local.enter() {
        local.one_slot_slowly(lane, handle, header, [first, second, 0, 0, 0]);
    }
}

#[inline(never)]
fn long_text(handle: Handle, header: u64, text: &str) {
    write(handle, |local, lane| {
        let (text, cut) = bounded(text, VALUE_MAX);
        let code = Scalar::Text as u8 | if cut { CUT } else { 0 };
        if let Some((kind, name)) = kind_and_name(header) {
            local.bytes(lane, handle, kind, code, name, text.as_bytes());
        }
    });
}

#[inline(never)]
fn other(handle: Handle, kind: Kind, name: NameId, value: Value<'_>) {
    write(handle, |local, lane| {
        let mut payload = Payload::new();
        let code = payload.value(value);
        local.bytes(lane, handle, kind, code, name, payload.bytes());
    });
}

/// Writes an attribute whose name found no room in the name table: it goes in front of the value.
#[cold]
#[inline(never)]
pub(crate) fn attribute_with_name(handle: Handle, kind: Kind, name: &str, value: Value<'_>) {
    write(handle, |local, lane| {
        let mut payload = Payload::new();
        if payload.name(name) {
            lane.counters.cut.add(1);
        }
        let code = payload.value(value);
        local.bytes(lane, handle, kind, code, NameId::INLINE, payload.bytes());
    });
}

/// The line of a span and its `meta`, if the span is open, and what is set on it written as mostly.
/// Where the span visits at the depth at which it was open itself, an old reference to it means
/// the visit: T2 but for that.
#[inline(always)]
fn usual(lane: &Lane, handle: Handle) -> Option<(&AtomicSlot, u64)> {
    let line = lane.spans.at(handle.depth());
    let [key, _, _, _, _, bits, ..] = line;
    if key.load(Ordering::Relaxed) != handle.key() || handle.depth() >= lane.spans.len() {
        return None;
    }
    let bits = bits.load(Ordering::Relaxed);
    (bits & (meta::REFUSED | meta::MOVED) == 0).then_some((line, bits))
}

/// Runs `write` if the span is open (T1, T2).
#[inline]
fn write(handle: Handle, write: impl FnOnce(&Local, &Lane)) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return local.reentered_attribute() };
        if is_live(lane, handle) {
            local.settle_attribute(lane, handle.depth());
            // Of a transaction that found no room, nothing is written.
            if lane.spans.entry(handle.depth()).meta & meta::REFUSED == 0 {
                write(local, lane);
            } else {
                local.lost_attribute(lane, handle);
            }
        }
        local.leave(lane);
    });
}

impl Local {
    /// The slot for an attribute of an open span, and the span's line, if no more has to be done
    /// than writing the one, and what waits in the other before it.
    #[inline(always)]
    fn attribute_slot<'a>(
        &self,
        lane: &'a Lane,
        handle: Handle,
    ) -> Option<(&'static AtomicSlot, &'a AtomicSlot)> {
        let (line, bits) = usual(lane, handle)?;
        let [.., waiting, _] = line;
        if bits & HOLDS_NONE == 0 && is_folded(waiting.load(Ordering::Relaxed)) {
            self.put_waiting(line).then(|| hold_none(line))?;
        }
        Some((self.writer.next_slot()?, line))
    }

    /// Writes an attribute of one slot, if its span is open (T2), and leaves the lane.
    #[inline(never)]
    fn one_slot_slowly(&self, lane: &'static Lane, handle: Handle, header: u64, payload: [u64; 5]) {
        if is_live(lane, handle) {
            self.settle_attribute(lane, handle.depth());
            self.one_slot(lane, handle, header, payload);
        }
        self.leave(lane);
    }

    /// Writes an attribute of one slot of an open span in whose line nothing waits.
    fn one_slot(&self, lane: &Lane, handle: Handle, header: u64, payload: [u64; 5]) {
        let [a, b, c, d, e] = payload;
        let slot = [header, handle.key(), self.root_key(lane, handle), a, b, c, d, e];
        // Making room may publish.
        self.note_keys(lane);
        if lane.spans.entry(handle.depth()).meta & meta::REFUSED != 0
            || !self.take_turn(lane, handle)
            || !self.writer.push(&lane.ring, &slot, || SETTINGS.ring_slots())
        {
            self.lost_attribute(lane, handle);
        }
    }

    /// In front of the first thing that is set on a span that other threads set things on, too:
    /// says from when on. False: there is no room.
    #[inline]
    fn take_turn(&self, lane: &Lane, handle: Handle) -> bool {
        let mut entry = lane.spans.entry(handle.depth());
        if entry.meta & meta::MOVED == 0 {
            return true;
        }
        let slot = turn(entry.key, entry.root, clock::ticks());
        let has_room = self.writer.push(&lane.ring, &slot, || SETTINGS.ring_slots());
        if has_room {
            entry.meta &= !meta::MOVED;
            lane.spans.write(handle.depth(), &entry);
        }
        has_room
    }

    #[cold]
    #[inline(never)]
    fn reentered_attribute(&self) {
        if let Some(lane) = self.lane() {
            lane.counters.attributes_lost.add(1);
        }
    }

    /// On a root whose name left the process: that name, and once is enough.
    pub(super) fn write_frozen(&self, lane: &Lane, handle: Handle, name: NameId) {
        let [.., lost, _] = lane.spans.at(handle.depth());
        let word = lost.load(Ordering::Relaxed);
        if word >> FROZEN_SHIFT == 0 {
            lost.store(word | u64::from(name.0) << FROZEN_SHIFT, Ordering::Relaxed);
            self.bytes(lane, handle, Kind::Frozen, Scalar::Text as u8, name, &[]);
        }
    }

    /// On a root that is visiting: whether it is to be kept.
    pub(super) fn ask_elsewhere(&self, lane: &Lane, handle: Handle, keep: bool) {
        let payload = [u8::from(keep)];
        self.bytes(lane, handle, Kind::Asked, Scalar::Bool as u8, NameId::NONE, &payload);
    }

    /// On a root that continues a trace: which, and what came with it.
    pub(super) fn write_trace(
        &self,
        lane: &Lane,
        handle: Handle,
        continued: &Continued,
        members: &[u8],
    ) {
        let code = Scalar::U64 as u8;
        self.bytes(lane, handle, Kind::Trace, code, NameId::NONE, &continued.payload());
        for piece in pieces(members, VALUE_MAX) {
            let code = Scalar::Text as u8;
            self.bytes(lane, handle, Kind::Dsc, code, NameId::NONE, piece);
        }
    }

    /// On a span: another one that it has to do with.
    pub(super) fn write_link(&self, lane: &Lane, handle: Handle, link: &Link) {
        let payload = link.payload();
        self.bytes(lane, handle, Kind::Link, Scalar::U64 as u8, NameId::NONE, &payload);
    }

    /// A payload of any length.
    #[inline]
    fn bytes(
        &self,
        lane: &Lane,
        handle: Handle,
        kind: Kind,
        code: u8,
        name: NameId,
        payload: &[u8],
    ) {
        if code & CUT != 0 {
            lane.counters.cut.add(1);
        }
        let slots = slots_for(payload.len()) as u64;
        // Making room may publish.
        self.note_keys(lane);
        if !self.take_turn(lane, handle)
            || !self.writer.room(&lane.ring, slots, || SETTINGS.ring_slots())
        {
            return self.lost_attribute(lane, handle);
        }
        let (first, rest) = payload.split_at(payload.len().min(INLINE_BYTES));
        #[expect(clippy::cast_possible_truncation, reason = "L1 of the layout")]
        let header = attribute_header(kind, code, payload.len() as u16, name);
        let [a, b, c, d, e] = words(first);
        let root = self.root_key(lane, handle);
        self.writer.put(&lane.ring, &[header, handle.key(), root, a, b, c, d, e]);
        for chunk in rest.chunks(WORDS * 8) {
            let slot: Slot = words(chunk);
            self.writer.put(&lane.ring, &slot);
        }
    }

    #[inline]
    fn root_key(&self, lane: &Lane, handle: Handle) -> u64 {
        let [_, root, ..] = lane.spans.at(handle.depth());
        root.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn lost_attribute(&self, lane: &Lane, handle: Handle) {
        lane.counters.attributes_lost.add(1);
        self.lost_slot(lane, handle.depth());
    }
}

/// Writes a link of an open span.
pub(crate) fn link(handle: Handle, link: &Link) {
    if handle.is_recording() {
        write(handle, |local, lane| local.write_link(lane, handle, link));
    }
}
