//! Starting a transaction with more to say than its op and name.

use std::any::Any;
use std::fmt;

use crate::name::IntoName;
use crate::propagate::Incoming;
use crate::record::{self, Admission, Handle, Request};
use crate::shared::id::NameId;
use crate::span;
use crate::transaction::Transaction;

/// What else is known when a transaction starts: the trace that it continues, a decision whether it
/// is kept, and what the sampler is to see.
///
/// ```
/// use hotspan::TransactionOptions;
///
/// struct Message { retries: u32 }
/// let message = Message { retries: 2 };
/// let headers = [("sentry-trace", "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052-1")];
///
/// let incoming = hotspan::continue_from(headers);
/// let transaction = TransactionOptions::new()
///     .continue_from(&incoming)
///     .context(&message)
///     .start("queue.process", "orders");
/// # drop(transaction);
/// ```
#[derive(Clone, Copy, Default)]
#[must_use = "nothing happens before `start`"]
pub struct TransactionOptions<'a> {
    incoming: Option<&'a Incoming>,
    sampled: Option<bool>,
    context: Option<&'a dyn Any>,
}

impl<'a> TransactionOptions<'a> {
    /// Nothing else.
    pub const fn new() -> Self {
        Self { incoming: None, sampled: None, context: None }
    }

    /// Goes on with a trace that began elsewhere. Default: a trace of its own.
    pub const fn continue_from(mut self, incoming: &'a Incoming) -> Self {
        self.incoming = Some(incoming);
        self
    }

    /// Decides that it is kept, or not, whatever sampler, parent, rules and rates say; caps do not
    /// hold it back. Default: that is left to them.
    pub const fn sampled(mut self, sampled: bool) -> Self {
        self.sampled = Some(sampled);
        self
    }

    /// A value that the sampler finds by its type
    /// ([`SamplingContext::custom`](crate::SamplingContext::custom)). Default: none.
    pub const fn context<T: Any>(mut self, value: &'a T) -> Self {
        self.context = Some(value);
        self
    }

    /// Goes on with what came, unless that is nothing and there is something else to go on with.
    pub(crate) fn or_continue_from(mut self, incoming: &'a Incoming) -> Self {
        if incoming.trace_id().is_some() || self.incoming.is_none() {
            self.incoming = Some(incoming);
        }
        self
    }

    /// Starts the transaction, as [`start_transaction`](crate::start_transaction) does. Never
    /// allocates in itself; a sampler may.
    pub fn start(&self, op: impl IntoName, name: impl IntoName) -> Transaction {
        start(self, &op, &name)
    }
}

impl fmt::Debug for TransactionOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionOptions")
            .field("incoming", &self.incoming)
            .field("sampled", &self.sampled)
            .finish_non_exhaustive()
    }
}

impl Incoming {
    /// Starts a transaction that goes on with this trace, or with one of its own where nothing
    /// came.
    pub fn start_transaction(&self, op: impl IntoName, name: impl IntoName) -> Transaction {
        TransactionOptions::new().continue_from(self).start(op, name)
    }
}

/// Decides on a transaction where there are rules, and nobody has said anything about it.
#[inline]
pub(crate) fn admit(op: &impl IntoName, name: &impl IntoName) -> Admission {
    let op_id = op.id().0;
    let mut admission = record::draw_known(op_id, NameId::NONE);
    if admission.wants_name() {
        admission = record::draw_known(op_id, name.id().0);
    }
    if admission.is_open() {
        admission = admit_by_rules(&TransactionOptions::new(), op_id, op, name);
    }
    admission
}

/// Decides on a transaction by everything there is to sampling.
#[inline(never)]
fn admit_by_rules(
    options: &TransactionOptions<'_>,
    op_id: NameId,
    op: &impl IntoName,
    name: &impl IntoName,
) -> Admission {
    record::draw_by_rules(&Request {
        op: op_id,
        op_text: op.text(),
        name_text: name.text(),
        name: &|| name.id().0,
        sampled: options.sampled,
        incoming: options.incoming,
        custom: options.context,
    })
}

/// Starts a transaction about which something is said.
fn start(
    options: &TransactionOptions<'_>,
    op: &impl IntoName,
    name: &impl IntoName,
) -> Transaction {
    if !record::is_on() {
        // Tracing without transactions: what came goes on in what leaves.
        if let Some(incoming) = options.incoming {
            incoming.adopt();
        }
        return Transaction::new(Handle::NONE);
    }
    let op_id = op.id().0;
    let admission = admit_by_rules(options, op_id, op, name);
    let handle = match admission.refused() {
        Some(handle) => handle,
        None => span::open_named(op, name, |op, name| match options.incoming {
            Some(incoming) => record::open_continued(admission, op, name, incoming),
            None => record::open_root(admission, op, name),
        }),
    };
    Transaction::new(handle)
}
