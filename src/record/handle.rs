//! What a guard holds, and what can be asked of an open span or changed in it.

use std::time::SystemTime;

use crate::shared::clock;
use crate::shared::id::NameId;
use crate::shared::registry::Lane;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::sync::Ordering;

use super::local::LOCAL;

/// What a guard holds: which span, and where its line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    /// 0: it is [`NONE`](Self::NONE).
    pub(super) key: u64,
    /// Depth of the line; [`UNSAMPLED`] added for a transaction that sampling left out, and for
    /// nothing, so that one bit says that nothing is recorded; [`VISITING`] for a line that was
    /// entered.
    pub(super) place: u64,
}

/// The sign, which is tested without a mask.
pub(super) const UNSAMPLED: u64 = 1 << 63;
/// `ENTERED` of a line: a guard that has lost its line (T4) is not to find the same span visiting
/// at that depth.
pub(super) const VISITING: u64 = meta::ENTERED << 32;

impl Handle {
    /// The handle of nothing.
    pub(crate) const NONE: Self = Self { key: 0, place: UNSAMPLED };

    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.key == 0
    }

    /// Whether what is done with it ends up anywhere.
    #[inline]
    pub(crate) const fn is_recording(self) -> bool {
        self.place & UNSAMPLED == 0
    }

    /// Itself, as everything that has a place says where it is.
    #[inline]
    pub(crate) const fn handle(self) -> Self {
        self
    }

    #[inline]
    pub(crate) const fn key(self) -> u64 {
        self.key
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "depths are below DEPTH")]
    pub(super) const fn depth(self) -> usize {
        self.place as u32 as usize
    }
}

/// The innermost open span of this thread, if it is recorded.
pub(crate) fn current() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let key = local.parent.get();
            if key == 0 {
                return None;
            }
            let lane = local.lane()?;
            Some(handle_at(lane, key, lane.spans.len().checked_sub(1)?))
        })
        .ok()?
}

/// The innermost open transaction of this thread, recorded or not.
pub(crate) fn current_root() -> Option<Handle> {
    LOCAL
        .try_with(|local| {
            let lane = local.lane()?;
            let top = lane.spans.entry(lane.spans.len().checked_sub(1)?);
            if top.root == 0 {
                return None;
            }
            let mut handle = handle_at(lane, top.root, top.root_depth());
            if top.meta & meta::UNSAMPLED != 0 {
                handle.place |= UNSAMPLED;
            }
            Some(handle)
        })
        .ok()?
}

/// Whether the span has not ended yet.
pub(crate) fn is_open(handle: Handle) -> bool {
    let open = LOCAL.try_with(|local| local.lane().is_some_and(|lane| is_live(lane, handle)));
    open.unwrap_or(false)
}

/// The key of a span's transaction, while the span is open.
pub(crate) fn root_of(handle: Handle) -> Option<u64> {
    if !handle.is_recording() {
        return (!handle.is_none()).then_some(handle.key);
    }
    LOCAL
        .try_with(|local| {
            let lane = local.lane()?;
            is_live(lane, handle).then(|| lane.spans.entry(handle.depth()).root)
        })
        .ok()?
}

/// Gives an open span another start.
pub(crate) fn restart(handle: Handle, at: SystemTime) {
    change(handle, |entry| {
        entry.start = clock::nanos_since_epoch(at);
        entry.meta |= meta::START_UNIX;
    });
}

/// Gives an open span another description, as far as the list of what is in flight goes.
pub(crate) fn redescribe(handle: Handle, description: NameId) {
    change(handle, |entry| entry.names = names(NameId(low(entry.names)), description));
}

/// Above the number of lost slots of a root that is not visiting: the name that left the process
/// before the root got another; 0 for none.
pub(super) const FROZEN_SHIFT: u32 = 32;

/// Before an open transaction gets another name: what left the process keeps the old one.
pub(crate) fn freeze(handle: Handle) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        if handle.is_recording() && is_live(lane, handle) {
            let entry = lane.spans.entry(handle.depth());
            if entry.meta & (meta::ROOT | meta::FROZEN) == meta::ROOT | meta::FROZEN {
                local.write_frozen(lane, handle, NameId(low(entry.names >> 32)));
            }
        }
        local.leave(lane);
    });
}

fn change(handle: Handle, change: impl FnOnce(&mut Entry)) {
    let _ = LOCAL.try_with(|local| {
        let Some(lane) = local.enter() else { return };
        if handle.is_recording() && is_live(lane, handle) {
            let mut entry = lane.spans.entry(handle.depth());
            change(&mut entry);
            lane.spans.write(handle.depth(), &entry);
        }
        local.leave(lane);
    });
}

/// T2.
#[inline]
pub(super) fn is_live(lane: &Lane, handle: Handle) -> bool {
    let [key, root, _, _, _, bits, ..] = lane.spans.at(handle.depth());
    let word = if handle.place & UNSAMPLED == 0 { key } else { root };
    word.load(Ordering::Relaxed) == handle.key
        && handle.depth() < lane.spans.len()
        && (bits.load(Ordering::Relaxed) << 32 ^ handle.place) & VISITING == 0
}

/// The handle of a line of this thread.
fn handle_at(lane: &Lane, key: u64, depth: usize) -> Handle {
    Handle { key, place: depth as u64 | (lane.spans.entry(depth).meta << 32 & VISITING) }
}

/// The word of a line that holds both names.
#[inline]
pub(super) const fn names(op: NameId, description: NameId) -> u64 {
    op.0 as u64 | (description.0 as u64) << 32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
pub(super) const fn low(word: u64) -> u32 {
    word as u32
}
