//! Futures inside spans: current at each poll, ended once, whichever way the future goes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::detached::Detached;
use crate::name::IntoName;
use crate::record::{self, Ending, Handle};
use crate::transaction::start_transaction;

/// Puts futures into spans; for every [`Future`], under any runtime.
pub trait FutureExt: Future + Sized {
    /// Runs the future inside a span or a transaction, which is current at each poll and ends with
    /// the future, once: when it is done; when it is dropped before that, with the status
    /// `cancelled`; when its `poll` or its drop panics, with `internal_error`. What the future
    /// holds is dropped inside the span, and before it ends.
    ///
    /// The span has begun where it is given, as a child of what was current there; it need not be
    /// polled for that. Inside, [`start_child`](crate::start_child) makes its children, and
    /// [`Scope::span`](crate::Scope::span) finds it to set things on. Never allocates, but for a
    /// thread's first recorded call; a poll costs an [`enter`](Detached::enter) and a leave.
    ///
    /// ```
    /// use hotspan::FutureExt;
    ///
    /// async fn load(id: u64) -> u64 {
    ///     id
    /// }
    ///
    /// async fn process(id: u64) -> u64 {
    ///     load(id).in_span(hotspan::start_child("db", "load")).await
    /// }
    /// # fn is_send<T: Send>(value: T) -> T { value }
    /// # let _ = is_send(process(1));
    /// ```
    ///
    /// A guard that belongs to a thread ([`Span`](crate::Span),
    /// [`Transaction`](crate::Transaction), [`Entered`](crate::Entered)) cannot be held across an
    /// `await` in a future that is spawned on several threads. This does not compile:
    ///
    /// ```compile_fail
    /// # use hotspan::FutureExt;
    /// # fn spawn(_: impl Future + Send + 'static) {}
    /// # async fn load() {}
    /// spawn(async {
    ///     let span = hotspan::start_child("db", "load");
    ///     load().await;
    ///     drop(span);
    /// });
    /// ```
    ///
    /// Ended before the `await`, or given to the future that is awaited, it does:
    ///
    /// ```
    /// # use hotspan::FutureExt;
    /// # fn spawn(_: impl Future + Send + 'static) {}
    /// # async fn load() {}
    /// spawn(async {
    ///     let span = hotspan::start_child("db", "load");
    ///     drop(span);
    ///     load().await;
    /// });
    /// spawn(async {
    ///     let span = hotspan::start_child("db", "load");
    ///     load().in_span(span).await;
    /// });
    /// ```
    ///
    /// Where a future stays on one thread the compiler lets it pass. Between two polls the guard's
    /// span is then that thread's innermost one, and what others start there without a span of
    /// their own becomes its child.
    fn in_span(self, span: impl Into<Detached>) -> InSpan<Self> {
        InSpan { span: span.into(), future: Some(self) }
    }

    /// Runs the future as a transaction of its own, as [`in_span`](Self::in_span) does; the
    /// transaction is started, and sampled, when the future is polled first, and not before. While
    /// it is polled it hides what is around it, as any transaction does.
    ///
    /// ```
    /// use hotspan::FutureExt;
    ///
    /// let item = async { 5 }.in_transaction("queue.process", "orders");
    /// # let _ = item;
    /// ```
    fn in_transaction<O, N>(self, op: O, name: N) -> InTransaction<Self, O, N>
    where
        O: IntoName,
        N: IntoName,
    {
        InTransaction { start: Some((op, name)), inner: self.in_span(Detached::NONE) }
    }
}

impl<F: Future> FutureExt for F {}

pin_project! {
    /// A future inside a span: see [`FutureExt::in_span`]. Once it is done, polling it again is
    /// pending for ever.
    #[must_use = "futures do nothing unless they are polled"]
    #[derive(Debug)]
    pub struct InSpan<F> {
        span: Detached,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InSpan<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let scope = this.span.enter();
                // What the future holds ends inside the span, and before it.
                this.future.set(None);
                drop(scope);
                this.span.end(Ending { at: None, cancelled: true });
            }
        }
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let mut visit = Visit::begin(this.span);
        let output = future.poll(context);
        if output.is_ready() {
            this.future.set(None);
        } else {
            visit.is_to_go_on = true;
        }
        drop(visit);
        output
    }
}

/// One poll: the span is current until this is dropped.
struct Visit<'a> {
    span: &'a mut Detached,
    handle: Handle,
    /// The future is not done. If this is not said, it is, or its `poll` or its drop has panicked.
    is_to_go_on: bool,
}

impl<'a> Visit<'a> {
    fn begin(span: &'a mut Detached) -> Self {
        let handle = span.enter_by_hand();
        Self { span, handle, is_to_go_on: false }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        record::leave(self.handle);
        if !self.is_to_go_on {
            self.span.end(Ending::default());
        }
    }
}

pin_project! {
    /// A future that is a transaction: see [`FutureExt::in_transaction`]. Once it is done, polling
    /// it again is pending for ever.
    #[must_use = "futures do nothing unless they are polled"]
    #[derive(Debug)]
    pub struct InTransaction<F, O, N> {
        start: Option<(O, N)>,
        #[pin]
        inner: InSpan<F>,
    }
}

impl<F: Future, O: IntoName, N: IntoName> Future for InTransaction<F, O, N> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Some((op, name)) = this.start.take() {
            *this.inner.as_mut().project().span = start_transaction(op, name).detach();
        }
        this.inner.poll(context)
    }
}
