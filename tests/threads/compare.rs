//! What the library shows and leaves, beside what the model says.

use std::collections::BTreeMap;

use hotspan::{Count, Hub, Stats, inflight, stats};
use serde_json::{Value, json};

use super::driver::Driver;
use super::model::{How, Mode, Model, Tree};
use super::support::envelope::Opened;
use super::support::session::lost_between;
use super::worker::{Held, Worker};

impl Driver {
    /// What the thread itself sees as current.
    pub(super) fn look_at(&self, at: usize) {
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
    pub(super) fn look(&self) {
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
        self.compare_books(&now);
    }

    /// Delivered and lost so far.
    fn compare_books(&self, now: &Stats) {
        let mut lost = BTreeMap::new();
        for reason in now.dropped.keys() {
            let count = lost_between(&self.before, now, *reason);
            if count != Count::default() {
                lost.insert(*reason, count);
            }
        }
        assert_eq!(lost, self.model.lost, "lost");
        let delivered = now.delivered - self.before.delivered;
        assert_eq!(delivered, self.model.delivered, "delivered");
        let discarded = now.discarded - self.before.discarded;
        assert_eq!(discarded, self.model.discarded, "discarded");
    }

    /// Ends everything but what was forgotten.
    pub(super) fn end(mut self) -> Model {
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
        assert_eq!(arrived, self.model.trees);
        self.compare_books(&after);
        let model = self.model;
        assert_eq!(after.started - self.before.started, model.started(), "started");
        assert_eq!(after.open - self.before.open, self.forgotten, "left open");
        assert_eq!(after.held(), after.open, "nowhere else");
        let lost = model.lost.values().fold(Count::default(), |sum, count| sum + *count);
        let all = model.delivered + model.discarded + lost + self.forgotten;
        assert_eq!(model.started(), all, "the model's books");
        assert_eq!(after.late - self.before.late, model.late, "late");
        assert_eq!(after.misnested - self.before.misnested, model.misnested, "misnested");
        assert_eq!(after.unsampled - self.before.unsampled, model.unsampled, "unsampled");
        model
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
