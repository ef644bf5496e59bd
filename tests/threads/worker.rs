//! A thread that does what it is told, and holds what comes of it.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use hotspan::{Entered, Span, SpanStatus, Transaction};

use super::program::End;

/// What a thread holds.
pub(crate) enum Held {
    Transaction(Transaction),
    Span(Span),
    Scope(Entered<'static>),
}

/// Does the same with whatever is held.
macro_rules! with {
    ($held:expr, $it:ident => $what:expr) => {
        match $held {
            Held::Transaction($it) => $what,
            Held::Span($it) => $what,
            Held::Scope($it) => $what,
        }
    };
}
pub(crate) use with;

impl Held {
    pub(crate) fn is_recording(&self) -> bool {
        with!(self, it => it.is_recording())
    }

    pub(crate) fn child(&self, name: String) -> Span {
        with!(self, it => it.start_child("op", name))
    }

    pub(crate) fn end(self, end: End) {
        match (self, end) {
            (Self::Transaction(it), End::Finish) => it.finish(),
            (Self::Transaction(it), End::At) => it.finish_at(SystemTime::now()),
            (Self::Span(it), End::Finish) => it.finish(),
            (Self::Span(it), End::At) => it.finish_at(SystemTime::now()),
            (held, _) => drop(held),
        }
    }
}

/// The statuses that are set in turn.
pub(crate) const STATUSES: [SpanStatus; 4] =
    [SpanStatus::Ok, SpanStatus::NotFound, SpanStatus::Aborted, SpanStatus::AlreadyExists];

/// Sets the `n`th value of all.
macro_rules! set {
    ($it:expr, $key:expr, $n:expr) => {
        match $key {
            Key::Tag => drop($it.set_tag("tag", $n)),
            Key::Data => drop($it.set_data("data", $n)),
            Key::Status => drop($it.set_status(STATUSES[$n as usize % STATUSES.len()])),
        }
    };
}
pub(crate) use set;

type Job = Box<dyn FnOnce(&mut Vec<Held>) + Send>;

/// When it is dropped the thread ends, and what it holds is forgotten.
pub(crate) struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(name: String) -> Self {
        let (jobs, told) = channel::<Job>();
        let work = move || {
            let mut held = Vec::new();
            for job in told {
                job(&mut held);
            }
            held.into_iter().for_each(std::mem::forget);
        };
        let thread = thread::Builder::new().name(name).spawn(work).unwrap();
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Waits until it is done.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Vec<Held>) -> T + Send + 'static,
    ) -> T {
        let (done, result) = channel();
        let job = move |held: &mut Vec<Held>| drop(done.send(job(held)));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        result.recv().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|it| it.is_ok()));
    }
}
