//! What is open on this thread, in the words of the Sentry SDKs.

use std::marker::PhantomData;

use crate::record;
use crate::span::{OnThisThread, SpanRef};
use crate::transaction::TransactionRef;

/// The calling thread's view, as `Hub.current` is in the SDKs.
///
/// ```
/// use hotspan::Hub;
///
/// fn deep_inside() {
///     if let Some(mut transaction) = Hub::current().scope().transaction() {
///         transaction.set_tag("found", true);
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hub(OnThisThread);

/// What is active on the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Scope(OnThisThread);

impl Hub {
    /// The calling thread's.
    #[must_use]
    #[inline]
    pub const fn current() -> Self {
        Self(PhantomData)
    }

    /// The calling thread's scope.
    #[must_use]
    #[inline]
    pub const fn scope(self) -> Scope {
        Scope(PhantomData)
    }
}

impl Scope {
    /// The innermost open transaction of this thread, sampled or not.
    #[must_use]
    pub fn transaction(self) -> Option<TransactionRef> {
        record::current_root().map(TransactionRef::new)
    }

    /// The innermost open span of this thread: a child, or the transaction itself when it has no
    /// open child. `None` when there is none, or when it is not sampled.
    #[must_use]
    pub fn span(self) -> Option<SpanRef> {
        record::current().map(SpanRef::new)
    }
}
