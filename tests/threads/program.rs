//! Programs: steps on several threads, handed out one at a time, so that what must come of them is
//! certain.

use proptest::prelude::*;

use super::model::Mode;

/// What one thread does. Numbers choose among what there is to be chosen from, modulo how many
/// there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Transaction,
    /// One that goes on with a trace, and perhaps is decided on by the caller.
    Continued(Option<bool>),
    /// Of the innermost span.
    Child,
    /// Of a guard or a scope that the thread holds.
    ChildOf(usize),
    Set(usize, Key),
    SetDetached(usize, Key),
    /// Of a guard its span's end, of a scope its own.
    End(usize, End),
    Detach(usize),
    Context(usize),
    ContextOfDetached(usize),
    /// Of the innermost span, or of the innermost transaction.
    ContextOfCurrent(bool),
    EnterDetached(usize),
    EnterContext(usize),
    /// A child that is detached from the beginning.
    DetachedChild(usize),
    Finish(usize, End),
    /// Asks for a transaction that the thread holds to be kept, or not to be.
    Ask(usize, bool),
    AskDetached(usize, bool),
    /// The same of the thread's innermost transaction, wherever that ends.
    AskCurrent(bool),
    Forget(usize),
    ForgetDetached(usize),
    /// Of a transaction that the thread holds: its next step, or the end of the one that is open.
    Step(usize),
    EndStep(usize),
    /// So many of what the thread holds, and perhaps something detached, are dropped by a panic;
    /// perhaps a span is started and ended meanwhile.
    Panic(usize, usize, Option<usize>, bool),
    /// The thread ends with all it holds, and another one takes its place.
    Renew,
    Flush,
    Restart(Mode),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Tag,
    Data,
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Drop,
    Finish,
    /// At a time that the caller says.
    At,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) thread: usize,
    pub(crate) act: Act,
}

/// The same, with transactions whose end decides whether they are kept.
pub(crate) fn on_trial(threads: usize, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let n = || 0..64_usize;
    let status = || n().prop_map(|at| Act::Set(at, Key::Status));
    let sampled = prop_oneof![2 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let act = prop_oneof![
        24 => act(),
        2 => sampled.prop_map(Act::Continued),
        2 => (n(), any::<bool>()).prop_map(|(at, keep)| Act::Ask(at, keep)),
        1 => (n(), any::<bool>()).prop_map(|(at, keep)| Act::AskDetached(at, keep)),
        1 => any::<bool>().prop_map(Act::AskCurrent),
        2 => status(),
    ];
    (1..=threads).prop_flat_map(move |threads| {
        let step = (0..threads, act.clone()).prop_map(|(thread, act)| Step { thread, act });
        prop::collection::vec(step, 1..=length)
    })
}

/// Up to `threads` threads and `length` steps.
pub(crate) fn program(threads: usize, length: usize) -> impl Strategy<Value = Vec<Step>> {
    (1..=threads).prop_flat_map(move |threads| {
        let step = (0..threads, act()).prop_map(|(thread, act)| Step { thread, act });
        prop::collection::vec(step, 1..=length)
    })
}

/// One transaction, detached or known by its context and entered on all of `threads`, and what is
/// done around it.
pub(crate) fn around_one(threads: usize, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let n = || 0..3_usize;
    let end = || Just(End::Drop);
    let act = prop_oneof![
        10 => n().prop_map(|at| Act::Set(at, Key::Data)),
        4 => n().prop_map(|at| Act::SetDetached(at, Key::Data)),
        2 => Just(Act::Child),
        3 => n().prop_map(Act::EnterDetached),
        2 => n().prop_map(Act::EnterContext),
        1 => n().prop_map(Act::Context),
        3 => (n(), end()).prop_map(|(at, end)| Act::End(at, end)),
        1 => n().prop_map(Act::Detach),
        1 => Just(Act::Flush),
        1 => (n(), end()).prop_map(|(at, end)| Act::Finish(at, end)),
    ];
    let step = (0..threads, act).prop_map(|(thread, act)| Step { thread, act });
    (any::<bool>(), prop::collection::vec(step, 1..=length)).prop_map(move |(leaves, steps)| {
        let (share, enter) = if leaves {
            (Act::Detach(0), Act::EnterDetached(0))
        } else {
            (Act::Context(0), Act::EnterContext(0))
        };
        let first = [Act::Transaction, Act::Set(0, Key::Data), share];
        let mut program = first.map(|act| Step { thread: 0, act }).to_vec();
        program.extend((0..threads).map(|thread| Step { thread, act: enter }));
        program.extend(steps);
        program
    })
}

fn act() -> impl Strategy<Value = Act> + Clone {
    let n = || 0..64_usize;
    let key = || prop_oneof![Just(Key::Tag), Just(Key::Data), Just(Key::Status)];
    let end = || prop_oneof![3 => Just(End::Drop), 1 => Just(End::Finish), 1 => Just(End::At)];
    let mode = prop_oneof![
        3 => Just(Mode::Sampled),
        2 => Just(Mode::Trial),
        1 => Just(Mode::Unsampled),
        1 => Just(Mode::Off),
    ];
    prop_oneof![
        8 => Just(Act::Transaction),
        10 => Just(Act::Child),
        6 => n().prop_map(Act::Step),
        1 => n().prop_map(Act::EndStep),
        6 => n().prop_map(Act::ChildOf),
        10 => (n(), key()).prop_map(|(at, key)| Act::Set(at, key)),
        5 => (n(), key()).prop_map(|(at, key)| Act::SetDetached(at, key)),
        20 => (n(), end()).prop_map(|(at, end)| Act::End(at, end)),
        8 => n().prop_map(Act::Detach),
        4 => n().prop_map(Act::Context),
        2 => n().prop_map(Act::ContextOfDetached),
        2 => any::<bool>().prop_map(Act::ContextOfCurrent),
        8 => n().prop_map(Act::EnterDetached),
        8 => n().prop_map(Act::EnterContext),
        3 => n().prop_map(Act::DetachedChild),
        6 => (n(), end()).prop_map(|(at, end)| Act::Finish(at, end)),
        1 => n().prop_map(Act::Forget),
        1 => n().prop_map(Act::ForgetDetached),
        2 => (n(), 0..4_usize, prop::option::of(n()), any::<bool>())
            .prop_map(|(at, many, detached, start)| Act::Panic(at, many, detached, start)),
        2 => Just(Act::Renew),
        3 => Just(Act::Flush),
        1 => mode.prop_map(Act::Restart),
    ]
}
