//! Runs a program, and the model beside it; says where they differ.

use std::sync::MutexGuard;
use std::time::{Duration, SystemTime};

use hotspan::transport::Memory;
use hotspan::{
    Config, Count, Detached, Guard, Hub, Keep, Rule, SpanContext, Stats, Transaction,
    TransactionOptions, continue_from, start_child, start_transaction, stats,
};
use serde_json::{Value, json};

use super::model::{Carried, Handle, How, Mode, Model};
use super::program::{Act, End, Key, Step};
use super::support::session::{LONG, alone, config};
use super::worker::{Held, STATUSES, Worker, set, with};

/// More transactions than this may not be open at once on a thread.
const ROOTS_MAX: usize = 12;

/// Every so many steps everything is looked at.
const LOOK_EVERY: usize = 5;

/// What is known of a guard or scope that a thread holds; `None`: it is of nothing.
#[derive(Clone, Copy)]
pub(super) struct Told {
    is_scope: bool,
    pub(super) handle: Option<Handle>,
}

pub(super) struct Thread {
    pub(super) worker: Worker,
    /// The model's number of it.
    pub(super) number: usize,
    pub(super) name: String,
    /// In the order in which the worker holds them.
    pub(super) held: Vec<Told>,
}

pub(crate) struct Driver {
    pub(super) model: Model,
    pub(super) threads: Vec<Thread>,
    pub(super) detached: Vec<(Option<Carried>, Detached)>,
    contexts: Vec<(Option<Carried>, SpanContext)>,
    pub(super) forgotten: Count,
    values: u64,
    pub(super) memory: Memory,
    pub(super) guard: Option<Guard>,
    pub(super) before: Stats,
    _alone: MutexGuard<'static, ()>,
}

/// Runs the program and compares everything.
pub(crate) fn run(mode: Mode, program: &[Step]) -> Model {
    let mut driver = Driver::new(mode);
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
        rules: if mode == Mode::Trial { vec![if_failed_or_asked()] } else { Vec::new() },
        // It looks when it is asked to.
        flush_interval: Duration::from_secs(3600),
        ..config(move || memory.clone())
    };
    Some(hotspan::init(config).unwrap())
}

fn if_failed_or_asked() -> Rule {
    let keep = Keep { failed: true, asked: true, ..Keep::default() };
    Rule { op: Some("op".into()), keep, ..Rule::default() }
}

pub(super) fn pick(number: usize, among: usize) -> Option<usize> {
    number.checked_rem(among)
}

impl Driver {
    fn new(mode: Mode) -> Self {
        let alone = alone();
        let memory = Memory::new();
        let before = stats();
        Self {
            model: Model::new(mode),
            threads: Vec::new(),
            detached: Vec::new(),
            contexts: Vec::new(),
            forgotten: Count::default(),
            values: 0,
            guard: init(&memory, mode),
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
            Act::Transaction => {
                self.transaction(at, None, |name| start_transaction("op", name));
            }
            Act::Continued(sampled) => self.continued(at, sampled),
            Act::Ask(which, keep) => self.ask(at, which, keep),
            Act::AskDetached(which, keep) => {
                if let Some(which) = pick(which, self.detached.len()) {
                    let (carried, detached) = &mut self.detached[which];
                    let _ = if keep { detached.keep() } else { detached.discard() };
                    carried.inspect(|it| self.model.ask_carried(*it, keep));
                }
            }
            Act::AskCurrent(keep) => self.ask_current(at, keep),
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
            Act::Step(which) => self.next_step(at, which),
            Act::EndStep(which) => self.end_step(at, which),
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

    fn continued(&mut self, at: usize, sampled: Option<bool>) {
        let start = move |name: String| {
            let incoming = continue_from([(
                "sentry-trace",
                "4c79f60c11214eb38604f4ae0781bfb2-fa90fdead5f74052",
            )]);
            let options = TransactionOptions::new().continue_from(&incoming);
            match sampled {
                Some(sampled) => options.sampled(sampled).start("op", name),
                None => options.start("op", name),
            }
        };
        if let Some(handle) = self.transaction(at, sampled, start) {
            self.model.goes_on_with_a_trace(self.threads[at].number, handle);
        }
    }

    fn ask(&mut self, at: usize, which: usize, keep: bool) {
        let thread = &self.threads[at];
        let Some(which) = pick(which, thread.held.len()) else { return };
        let is_asked = thread.worker.run(move |held| match &mut held[which] {
            Held::Transaction(it) if keep => it.keep().is_recording(),
            Held::Transaction(it) => it.discard().is_recording(),
            Held::Span(_) | Held::Scope(_) => false,
        });
        if let Some(handle) = thread.held[which].handle.filter(|_| is_asked) {
            self.model.ask(thread.number, handle, keep);
        }
    }

    fn ask_current(&mut self, at: usize, keep: bool) {
        let thread = &self.threads[at];
        let (_, transaction) = self.model.current(thread.number);
        thread.worker.run(move |_| {
            if let Some(mut it) = Hub::current().scope().transaction() {
                let _ = if keep { it.keep() } else { it.discard() };
            }
        });
        if let Some(handle) = transaction {
            self.model.ask(thread.number, handle, keep);
        }
    }

    fn transaction(
        &mut self,
        at: usize,
        explicit: Option<bool>,
        start: impl FnOnce(String) -> Transaction + Send + 'static,
    ) -> Option<Handle> {
        let thread = &mut self.threads[at];
        if self.model.roots(thread.number) >= ROOTS_MAX {
            return None;
        }
        let name = self.model.next_name();
        let handle = self.model.start(thread.number, explicit);
        thread.held.push(Told { is_scope: false, handle });
        let id = thread.worker.run(move |held| {
            let guard = start(name);
            let id = guard.span_id();
            held.push(Held::Transaction(guard));
            id
        });
        assert_eq!(id.is_some(), handle.is_some(), "started");
        handle.inspect(|it| self.model.know(it.node, id))
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

    pub(super) fn model_end(&mut self, number: usize, told: Told, how: How) {
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
        let (is_child, detached) = thread.worker.run(move |held| match held.remove(which) {
            Held::Transaction(it) => (false, it.detach()),
            Held::Span(it) => (true, it.detach()),
            Held::Scope(_) => unreachable!(),
        });
        let number = thread.number;
        let carried = match told.handle {
            None if is_child => self.model.unrecorded(number),
            handle => handle.and_then(|it| self.model.detach(number, it)),
        };
        self.detached.push((carried, detached));
    }

    fn context(&mut self, at: usize, which: usize) {
        let Some(which) = self.pick_guard(at, which) else { return };
        let thread = &self.threads[at];
        let (is_child, context) = thread.worker.run(move |held| match &held[which] {
            Held::Transaction(it) => (false, it.context()),
            Held::Span(it) => (true, it.context()),
            Held::Scope(_) => unreachable!(),
        });
        let carried = match thread.held[which].handle {
            None if is_child => self.model.unrecorded(thread.number),
            handle => handle.and_then(|it| self.model.context(thread.number, it)),
        };
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
        let carried_child = carried.and_then(|it| self.model.detached_child(number, it));
        self.detached.push((carried, parent));
        self.detached.push((carried_child, child));
    }

    fn flush(&mut self) {
        if let Some(guard) = &self.guard {
            assert!(guard.flush(LONG).complete);
        }
        self.model.flush();
    }

    pub(super) fn restart(&mut self, mode: Mode) {
        self.guard.take().map(|guard| guard.close(LONG));
        self.guard = init(&self.memory, mode);
        self.model.restart(mode);
    }
}
