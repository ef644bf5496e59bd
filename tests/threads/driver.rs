//! Runs a program, and the model beside it; says where they differ.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::MutexGuard;
use std::time::{Duration, SystemTime};

use hotspan::transport::Memory;
use hotspan::{
    Config, Count, Detached, Guard, Hub, SpanContext, Stats, inflight, start_child,
    start_transaction, stats,
};
use serde_json::{Value, json};

use super::model::{Carried, Handle, How, Mode, Model, Tree};
use super::program::{Act, End, Key, Step};
use super::support::envelope::Opened;
use super::support::session::{LONG, alone, config, lost_between};
use super::worker::{Held, STATUSES, Worker, set, with};

/// More transactions than this may not be open at once on a thread.
const ROOTS_MAX: usize = 12;

/// Every so many steps everything is looked at.
const LOOK_EVERY: usize = 5;

/// What is known of a guard or scope that a thread holds; `None`: it is of nothing.
#[derive(Clone, Copy)]
struct Told {
    is_scope: bool,
    handle: Option<Handle>,
}

struct Thread {
    worker: Worker,
    /// The model's number of it.
    number: usize,
    name: String,
    /// In the order in which the worker holds them.
    held: Vec<Told>,
}

pub(crate) struct Driver {
    model: Model,
    threads: Vec<Thread>,
    detached: Vec<(Option<Carried>, Detached)>,
    contexts: Vec<(Option<Carried>, SpanContext)>,
    forgotten: Count,
    values: u64,
    memory: Memory,
    guard: Option<Guard>,
    before: Stats,
    _alone: MutexGuard<'static, ()>,
}

/// Runs the program and compares everything.
pub(crate) fn run(program: &[Step]) -> Model {
    let mut driver = Driver::new();
    for (at, step) in program.iter().enumerate() {
        while driver.threads.len() <= step.thread {
            driver.start_thread(driver.threads.len());
        }
        driver.step(step.thread, step.act);
        driver.look_at(step.thread);
        if at % LOOK_EVERY == 0 {
            driver.look();
        }
    }
    driver.end()
}

fn init(memory: &Memory, mode: Mode) -> Option<Guard> {
    if mode == Mode::Off {
        return None;
    }
    let memory = memory.clone();
    let rate = if mode == Mode::Sampled { 1.0 } else { 0.0 };
    let config = Config {
        traces_sample_rate: Some(rate),
        // It looks when it is asked to.
        flush_interval: Duration::from_secs(3600),
        ..config(move || memory.clone())
    };
    Some(hotspan::init(config).unwrap())
}

fn pick(number: usize, among: usize) -> Option<usize> {
    number.checked_rem(among)
}

impl Driver {
    fn new() -> Self {
        let alone = alone();
        let memory = Memory::new();
        let before = stats();
        Self {
            model: Model::new(),
            threads: Vec::new(),
            detached: Vec::new(),
            contexts: Vec::new(),
            forgotten: Count::default(),
            values: 0,
            guard: init(&memory, Mode::Sampled),
            memory,
            before,
            _alone: alone,
        }
    }

    fn start_thread(&mut self, at: usize) {
        let number = self.model.thread();
        let name = format!("worker {number}");
        let worker = Worker::start(name.clone());
        self.threads.insert(at, Thread { worker, number, name, held: Vec::new() });
    }

    fn step(&mut self, at: usize, act: Act) {
        match act {
            Act::Transaction => self.transaction(at),
            Act::Child => {
                let handle = self.model.child(self.threads[at].number);
                self.child(at, handle, |_, name| start_child("op", name));
            }
            Act::ChildOf(which) => {
                if let Some(which) = pick(which, self.threads[at].held.len()) {
                    let parent = self.threads[at].held[which].handle;
                    let number = self.threads[at].number;
                    let handle = parent.and_then(|it| self.model.child_of(number, it));
                    self.child(at, handle, move |held, name| held[which].child(name));
                }
            }
            Act::Set(which, key) => self.set(at, which, key),
            Act::SetDetached(which, key) => self.set_detached(at, which, key),
            Act::End(which, how) => self.end_held(at, which, how),
            Act::Detach(which) => self.detach(at, which),
            Act::Context(which) => self.context(at, which),
            Act::ContextOfDetached(which) => {
                if let Some(which) = pick(which, self.detached.len()) {
                    let (carried, detached) = &self.detached[which];
                    self.contexts.push((*carried, detached.context()));
                }
            }
            Act::ContextOfCurrent(of_span) => self.context_of_current(at, of_span),
            Act::EnterDetached(which) => {
                if let Some(which) = pick(which, self.detached.len()) {
                    // The scope may be held for longer than what it was entered by.
                    let (carried, detached) = &self.detached[which];
                    self.enter(at, *carried, detached.context());
                }
            }
            Act::EnterContext(which) => {
                if let Some(which) = pick(which, self.contexts.len()) {
                    let (carried, context) = self.contexts[which];
                    self.enter(at, carried, context);
                }
            }
            Act::DetachedChild(which) => self.detached_child(at, which),
            Act::Finish(which, how) => {
                if let Some(which) = pick(which, self.detached.len()) {
                    let (carried, detached) = self.detached.swap_remove(which);
                    self.threads[at].worker.run(move |_| match how {
                        End::Drop => drop(detached),
                        End::Finish => detached.finish(),
                        End::At => detached.finish_at(SystemTime::now()),
                    });
                    let how = How { given: how == End::At, panicking: false };
                    let number = self.threads[at].number;
                    carried.inspect(|it| self.model.finish(number, *it, how));
                }
            }
            Act::Forget(which) => {
                if let Some(which) = pick(which, self.threads[at].held.len()) {
                    let thread = &mut self.threads[at];
                    thread.held.remove(which);
                    thread.worker.run(move |held| std::mem::forget(held.remove(which)));
                }
            }
            Act::ForgetDetached(which) => {
                if let Some(which) = pick(which, self.detached.len()) {
                    let (carried, detached) = self.detached.swap_remove(which);
                    std::mem::forget(detached);
                    self.forgotten +=
                        carried.map_or(Count::default(), |it| self.model.forgotten(it));
                }
            }
            Act::Panic(first, many, detached, start) => {
                self.panic(at, first, many, detached, start);
            }
            Act::Renew => {
                let thread = self.threads.remove(at);
                drop(thread.worker);
                self.model.end_thread(thread.number);
                self.start_thread(at);
            }
            Act::Flush => self.flush(),
            Act::Restart(mode) => self.restart(mode),
        }
    }

    fn transaction(&mut self, at: usize) {
        let thread = &mut self.threads[at];
        if self.model.roots(thread.number) >= ROOTS_MAX {
            return;
        }
        let name = self.model.next_name();
        let handle = self.model.start(thread.number);
        thread.held.push(Told { is_scope: false, handle });
        let id = thread.worker.run(move |held| {
            let guard = start_transaction("op", name);
            let id = guard.span_id();
            held.push(Held::Transaction(guard));
            id
        });
        assert_eq!(id.is_some(), handle.is_some(), "started");
        handle.inspect(|it| self.model.know(it.node, id));
    }

    fn child(
        &mut self,
        at: usize,
        handle: Option<Handle>,
        start: impl FnOnce(&[Held], String) -> hotspan::Span + Send + 'static,
    ) {
        let thread = &mut self.threads[at];
        let name = handle.map_or_else(|| "of nothing".to_owned(), |it| super::model::name(it.node));
        thread.held.push(Told { is_scope: false, handle });
        let id = thread.worker.run(move |held| {
            let guard = start(held, name);
            let id = guard.span_id();
            held.push(Held::Span(guard));
            id
        });
        assert_eq!(id.is_some(), handle.is_some(), "a child was started");
        handle.inspect(|it| self.model.know(it.node, id));
    }

    /// The next value, and how it arrives.
    fn value(&mut self, key: Key) -> (u64, &'static str, Value) {
        self.values += 1;
        let n = self.values;
        match key {
            Key::Tag => (n, "tag", json!(n.to_string())),
            Key::Data => (n, "data", json!(n)),
            Key::Status => (n, "status", json!(STATUSES[n as usize % STATUSES.len()].as_str())),
        }
    }

    fn set(&mut self, at: usize, which: usize, key: Key) {
        let Some(which) = pick(which, self.threads[at].held.len()) else { return };
        let (n, name, value) = self.value(key);
        let thread = &self.threads[at];
        thread.worker.run(move |held| with!(&mut held[which], it => set!(it, key, n)));
        if let Some(handle) = thread.held[which].handle {
            self.model.set(thread.number, handle, name, value);
        }
    }

    fn set_detached(&mut self, at: usize, which: usize, key: Key) {
        let Some(which) = pick(which, self.detached.len()) else { return };
        let (n, name, value) = self.value(key);
        let (carried, mut detached) = self.detached.swap_remove(which);
        let detached = self.threads[at].worker.run(move |_| {
            set!(detached, key, n);
            detached
        });
        self.detached.push((carried, detached));
        if let Some(carried) = carried {
            self.model.set_carried(self.threads[at].number, carried, name, value);
        }
    }

    fn end_held(&mut self, at: usize, which: usize, how: End) {
        let Some(which) = pick(which, self.threads[at].held.len()) else { return };
        let thread = &mut self.threads[at];
        let told = thread.held.remove(which);
        thread.worker.run(move |held| held.remove(which).end(how));
        let number = thread.number;
        self.model_end(number, told, How { given: how == End::At, panicking: false });
    }

    fn model_end(&mut self, number: usize, told: Told, how: How) {
        match told.handle {
            None => {}
            Some(handle) if told.is_scope => self.model.leave(number, handle),
            Some(handle) => self.model.end(number, handle, how),
        }
    }

    /// The guards of a thread, without its scopes.
    fn pick_guard(&self, at: usize, which: usize) -> Option<usize> {
        let held = self.threads[at].held.iter().enumerate();
        let guards: Vec<usize> = held.filter(|(_, it)| !it.is_scope).map(|(n, _)| n).collect();
        Some(guards[pick(which, guards.len())?])
    }

    fn detach(&mut self, at: usize, which: usize) {
        let Some(which) = self.pick_guard(at, which) else { return };
        let thread = &mut self.threads[at];
        let told = thread.held.remove(which);
        let detached = thread.worker.run(move |held| match held.remove(which) {
            Held::Transaction(it) => it.detach(),
            Held::Span(it) => it.detach(),
            Held::Scope(_) => unreachable!(),
        });
        let number = thread.number;
        let carried = told.handle.and_then(|it| self.model.detach(number, it));
        self.detached.push((carried, detached));
    }

    fn context(&mut self, at: usize, which: usize) {
        let Some(which) = self.pick_guard(at, which) else { return };
        let thread = &self.threads[at];
        let context = thread.worker.run(move |held| match &held[which] {
            Held::Transaction(it) => it.context(),
            Held::Span(it) => it.context(),
            Held::Scope(_) => unreachable!(),
        });
        let handle = thread.held[which].handle;
        let carried = handle.and_then(|it| self.model.context(thread.number, it));
        self.contexts.push((carried, context));
    }

    fn context_of_current(&mut self, at: usize, of_span: bool) {
        let thread = &self.threads[at];
        let (span, transaction) = self.model.current(thread.number);
        let context = thread.worker.run(move |_| {
            let scope = Hub::current().scope();
            if of_span {
                scope.span().map(|it| it.context())
            } else {
                scope.transaction().map(|it| it.context())
            }
        });
        let handle = if of_span { span } else { transaction };
        assert_eq!(context.is_some(), handle.is_some(), "current");
        if let Some(context) = context {
            let carried = handle.and_then(|it| self.model.context(thread.number, it));
            self.contexts.push((carried, context));
        }
    }

    fn enter(&mut self, at: usize, carried: Option<Carried>, context: SpanContext) {
        let thread = &mut self.threads[at];
        let handle = carried.and_then(|it| self.model.enter(thread.number, it));
        thread.held.push(Told { is_scope: true, handle });
        thread.worker.run(move |held| held.push(Held::Scope(context.enter())));
    }

    fn detached_child(&mut self, at: usize, which: usize) {
        let Some(which) = pick(which, self.detached.len()) else { return };
        let (carried, parent) = self.detached.swap_remove(which);
        let name = self.model.next_name();
        let (parent, child) = self.threads[at].worker.run(move |_| {
            let child = parent.start_child("op", name);
            (parent, child)
        });
        let number = self.threads[at].number;
        let scope = carried.and_then(|it| self.model.enter(number, it));
        let child_handle = scope.and_then(|it| self.model.child_of(number, it));
        let carried_child = child_handle.and_then(|it| self.model.detach(number, it));
        scope.inspect(|it| self.model.leave(number, *it));
        self.detached.push((carried, parent));
        self.detached.push((carried_child, child));
    }

    fn panic(&mut self, at: usize, first: usize, many: usize, which: Option<usize>, start: bool) {
        let thread = &mut self.threads[at];
        let number = thread.number;
        let first = pick(first, thread.held.len()).unwrap_or(0);
        let range = first..thread.held.len().min(first + many);
        let told: Vec<Told> = thread.held.drain(range.clone()).collect();
        let which = which.and_then(|it| pick(it, self.detached.len()));
        let (carried, detached) = match which.map(|it| self.detached.swap_remove(it)) {
            Some((carried, detached)) => (carried, Some(detached)),
            None => (None, None),
        };
        let child = if start { self.model.child(number) } else { None };
        let name = child.map(|it| super::model::name(it.node));
        thread.worker.run(move |held| {
            let taken: Vec<Held> = held.drain(range).collect();
            let thrown = catch_unwind(AssertUnwindSafe(move || {
                let _last = detached;
                let _then = taken;
                let _first = Starter(name);
                resume_unwind(Box::new("on purpose"));
            }));
            assert!(thrown.is_err());
        });
        // What begins while a panic unwinds is not what panicked.
        child.inspect(|it| self.model.end(number, *it, How::default()));
        let how = How { given: false, panicking: true };
        told.into_iter().for_each(|it| self.model_end(number, it, how));
        carried.inspect(|it| self.model.finish(number, *it, how));
    }

    fn flush(&mut self) {
        if let Some(guard) = &self.guard {
            assert!(guard.flush(LONG).complete);
        }
        self.model.flush();
    }

    fn restart(&mut self, mode: Mode) {
        self.guard.take().map(|guard| guard.close(LONG));
        self.guard = init(&self.memory, mode);
        self.model.restart(mode);
    }

    /// What the thread itself sees as current.
    fn look_at(&self, at: usize) {
        let thread = &self.threads[at];
        let (span, transaction) = self.model.current(thread.number);
        let seen = thread.worker.run(|_| {
            let scope = Hub::current().scope();
            (scope.span().map(|it| it.span_id()), scope.transaction().map(|it| it.span_id()))
        });
        for (seen, wanted) in [(seen.0, span), (seen.1, transaction)] {
            assert_eq!(seen.is_some(), wanted.is_some(), "current on {}: {wanted:?}", thread.name);
            if let Some(id) = wanted.and_then(|it| self.model.id(it.node)) {
                assert_eq!(seen, Some(Some(id)), "current on {}: {wanted:?}", thread.name);
            }
        }
    }

    /// What everybody sees.
    fn look(&self) {
        for at in 0..self.threads.len() {
            self.look_at(at);
            let thread = &self.threads[at];
            let recording =
                thread.worker.run(|held| held.iter().map(Held::is_recording).collect::<Vec<_>>());
            let live: Vec<bool> = thread
                .held
                .iter()
                .map(|it| it.handle.is_some_and(|it| self.model.is_live(thread.number, it)))
                .collect();
            assert_eq!(recording, live, "recording on {}", thread.name);
        }
        let seen: BTreeMap<Option<String>, (String, String)> = inflight()
            .into_iter()
            .map(|it| (it.thread_name, (it.name, it.span_description)))
            .collect();
        let wanted = self.threads.iter().filter_map(|thread| {
            Some((Some(thread.name.clone()), self.model.in_flight(thread.number)?))
        });
        assert_eq!(seen, wanted.collect(), "in flight");
        let now = stats();
        now.check().unwrap();
        assert_eq!(now.open - self.before.open, self.model.open(), "open");
    }

    /// Ends everything but what was forgotten.
    fn end(mut self) -> Model {
        self.look();
        let fresh = Worker::start("last".to_owned());
        let number = self.model.thread();
        for (carried, detached) in std::mem::take(&mut self.detached) {
            fresh.run(move |_| drop(detached));
            carried.inspect(|it| self.model.finish(number, *it, How::default()));
        }
        drop(fresh);
        for thread in std::mem::take(&mut self.threads) {
            drop(thread.worker);
            self.model.end_thread(thread.number);
        }
        if self.guard.is_none() {
            // For what lies in the rings.
            self.restart(Mode::Sampled);
        }
        self.restart(Mode::Off);
        let after = stats();
        after.check().unwrap();
        let arrived: BTreeMap<String, Tree> = self
            .memory
            .take()
            .iter()
            .map(|bytes| Opened::new(bytes))
            .filter(|opened| opened.kind == "transaction")
            .map(|opened| (opened.name().to_owned(), tree(&opened)))
            .collect();
        let model = self.model;
        assert_eq!(arrived, model.trees);
        let mut lost = BTreeMap::new();
        for reason in after.dropped.keys() {
            let count = lost_between(&self.before, &after, *reason);
            if count != Count::default() {
                lost.insert(*reason, count);
            }
        }
        assert_eq!(lost, model.lost, "lost");
        assert_eq!(after.delivered - self.before.delivered, model.delivered, "delivered");
        assert_eq!(after.started - self.before.started, model.started(), "started");
        assert_eq!(after.open - self.before.open, self.forgotten, "left open");
        assert_eq!(after.held(), after.open, "nowhere else");
        let lost = model.lost.values().fold(Count::default(), |sum, count| sum + *count);
        assert_eq!(model.started(), model.delivered + lost + self.forgotten, "the model's books");
        assert_eq!(after.late - self.before.late, model.late, "late");
        assert_eq!(after.misnested - self.before.misnested, model.misnested, "misnested");
        assert_eq!(after.unsampled - self.before.unsampled, model.unsampled, "unsampled");
        model
    }
}

/// Starts a span when it is dropped, and ends it.
struct Starter(Option<String>);

impl Drop for Starter {
    fn drop(&mut self) {
        if let Some(name) = self.0.take() {
            drop(start_child("op", name));
        }
    }
}

/// A transaction as it arrived, in the form of the model's.
fn tree(opened: &Opened) -> Tree {
    let roots_name = opened.name().to_owned();
    let mut names = BTreeMap::from([(opened.root()["span_id"].to_string(), roots_name.clone())]);
    for span in opened.spans() {
        let name = span["description"].as_str().unwrap().to_owned();
        assert!(names.insert(span["span_id"].to_string(), name).is_none(), "an id twice");
    }
    let told = |parent: String, span: &Value, tags: Option<&Value>| {
        let mut said = serde_json::Map::new();
        let tags = tags.filter(|tags| tags.as_object().is_some_and(|tags| !tags.is_empty()));
        tags.map(|tags| said.insert("tags".into(), tags.clone()));
        let data =
            span.get("data").filter(|data| data.as_object().is_some_and(|it| !it.is_empty()));
        data.map(|data| said.insert("data".into(), data.clone()));
        json!({"parent": parent, "status": span.get("status"), "said": said})
    };
    let root = told(roots_name.clone(), opened.root(), opened.payload.get("tags"));
    let mut tree = Tree::from([(roots_name, root)]);
    for span in opened.spans() {
        let name = names[&span["span_id"].to_string()].clone();
        let parent = names[&span["parent_span_id"].to_string()].clone();
        assert!(tree.insert(name, told(parent, span, span.get("tags"))).is_none(), "a name twice");
    }
    tree
}
