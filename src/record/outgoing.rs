//! What another service is to be told of where a thread is.

use crate::shared::id::{NameId, sample_rand};
use crate::shared::registry::Lane;
use crate::shared::seqlock::{Entry, meta};
use crate::shared::settings::{SETTINGS, threshold_of};
use crate::shared::sync::Ordering;

use super::handle::{FROZEN_SHIFT, Handle, is_live, low};
use super::local::LOCAL;

/// Where a request leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) root: u64,
    pub(crate) span: u64,
    /// The probability that the head of the transaction gave it, in millionths.
    pub(crate) threshold: u32,
    /// `sample_rand` of the trace that begins here.
    pub(crate) rand: u32,
    /// The transaction's name; none where it was not looked up.
    pub(crate) name: NameId,
    /// The trace began elsewhere.
    pub(crate) is_continued: bool,
}

/// Of a given span, or of the innermost one, recorded or not. The name that it says has left the
/// process then.
pub(crate) fn origin(of: Option<Handle>) -> Option<Origin> {
    LOCAL
        .try_with(|local| {
            let lane = local.enter()?;
            let depth = match of {
                Some(handle) => is_live(lane, handle).then(|| handle.depth()),
                None => lane.spans.len().checked_sub(1),
            };
            let origin = depth.and_then(|depth| origin_at(lane, depth));
            local.leave(lane);
            origin
        })
        .ok()?
}

fn origin_at(lane: &Lane, depth: usize) -> Option<Origin> {
    let entry = lane.spans.entry(depth);
    let is_unsampled = entry.meta & meta::UNSAMPLED != 0;
    if entry.key == 0 && !is_unsampled {
        return None;
    }
    let at = if is_unsampled { depth } else { entry.root_depth() };
    let root = lane.spans.entry(at);
    if root.key != 0 && root.meta & (meta::FROZEN | meta::ENTERED) == 0 {
        lane.spans.write(at, &Entry { meta: root.meta | meta::FROZEN, ..root });
    }
    let [.., lost, _] = lane.spans.at(at);
    let frozen = match root.meta & (meta::FROZEN | meta::ENTERED) {
        meta::FROZEN => low(lost.load(Ordering::Relaxed) >> FROZEN_SHIFT),
        _ => 0,
    };
    Some(Origin {
        root: entry.root,
        span: if is_unsampled { entry.root } else { entry.key },
        threshold: threshold_of(root.meta),
        rand: sample_rand(entry.root, SETTINGS.sample_seed()),
        name: NameId(if frozen == 0 { low(root.names >> 32) } else { frozen }),
        is_continued: root.meta & meta::CONTINUED != 0,
    })
}
