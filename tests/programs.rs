//! Random programs of guards on one thread, against a model so plain that it is right by
//! inspection: a list of what is open, searched from its end.
//!
//! Every program starts and ends spans in any order, forgets some, and sets data on some; the
//! envelopes must hold exactly the model's trees, and the books exactly the model's counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::mem_forget,
    clippy::allow_attributes,
    reason = "tests may panic, and forget what should not be"
)]

use std::collections::BTreeMap;
use std::thread;

use hotspan::{Count, Span, Transaction, start_child, start_transaction, stats};
use proptest::prelude::*;
use serde_json::{Value, json};

mod support;

use support::envelope::Opened;
use support::session::{Session, count};

/// A step of a program. Numbers choose among the guards that are held, modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Transaction,
    /// Of the innermost open span.
    Child,
    ChildOf(usize),
    Set(usize, u8),
    Drop(usize),
    Forget(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Transaction),
        5 => Just(Step::Child),
        3 => any::<usize>().prop_map(Step::ChildOf),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Step::Set(at, value)),
        7 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Forget),
    ]
}

/// More transactions than this may not be open at once on a thread.
const ROOTS_MAX: usize = 12;

enum Held {
    Transaction(Transaction),
    Span(Span),
}

/// A span in the model; its number is its name.
#[derive(Clone, Debug)]
struct Node {
    root: usize,
    parent: usize,
    is_open: bool,
    is_recorded: bool,
    /// Set before it ended.
    data: Option<u8>,
}

#[derive(Debug, Default)]
struct Model {
    nodes: Vec<Node>,
    /// Open spans in the order of their start.
    open: Vec<usize>,
    /// Roots in the order of their end.
    ended: Vec<usize>,
    unfinished: BTreeMap<usize, u64>,
    late: u64,
    misnested: u64,
}

impl Model {
    fn start(&mut self, parent: Option<usize>) -> usize {
        let number = self.nodes.len();
        let root = parent.map_or(number, |parent| self.nodes[parent].root);
        let parent = parent.unwrap_or(number);
        self.nodes.push(Node { root, parent, is_open: true, is_recorded: false, data: None });
        self.open.push(number);
        number
    }

    fn end(&mut self, number: usize) {
        if !self.nodes[number].is_open {
            self.late += 1;
            return;
        }
        self.misnested += u64::from(self.open.last() != Some(&number));
        self.close(number);
        self.nodes[number].is_recorded = true;
        if self.nodes[number].root == number {
            self.ended.push(number);
            let below: Vec<usize> =
                self.open.iter().copied().filter(|it| self.nodes[*it].root == number).collect();
            self.unfinished.insert(number, below.len() as u64);
            below.into_iter().for_each(|it| self.close(it));
        }
    }

    fn close(&mut self, number: usize) {
        self.nodes[number].is_open = false;
        self.open.retain(|it| *it != number);
    }

    /// The tree of an ended transaction: each span's parent and data.
    fn tree(&self, root: usize) -> BTreeMap<String, (String, Value)> {
        let mut tree = BTreeMap::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.root == root && node.is_recorded {
                // What hangs below a span that was not recorded hangs below the root.
                let parent = if self.nodes[node.parent].is_recorded { node.parent } else { root };
                let mut data = serde_json::Map::new();
                data.extend(node.data.map(|value| ("value".to_owned(), json!(value))));
                if number == root && self.unfinished[&root] > 0 {
                    data.insert("hotspan.unfinished".to_owned(), json!(self.unfinished[&root]));
                }
                tree.insert(name(number), (name(parent), Value::Object(data)));
            }
        }
        tree
    }

    fn count(&self, mut wanted: impl FnMut(&Node) -> bool) -> Count {
        let mut sum = Count::default();
        for (number, node) in self.nodes.iter().enumerate() {
            if wanted(node) {
                sum += count(u64::from(node.root == number), 1);
            }
        }
        sum
    }

    /// Delivered: what ended before its transaction, and that did end.
    fn delivered(&self) -> Count {
        self.count(|node| node.is_recorded && self.nodes[node.root].is_recorded)
    }
}

fn name(number: usize) -> String {
    format!("span {number}")
}

/// Runs the program on this thread, guards and model side by side.
fn run(program: &[Step]) -> Model {
    let mut model = Model::default();
    let mut held: Vec<(usize, Held)> = Vec::new();
    for step in program {
        let among = held.len().max(1);
        match *step {
            Step::Transaction => {
                let roots = model.open.iter().filter(|it| model.nodes[**it].root == **it).count();
                if roots < ROOTS_MAX {
                    let number = model.start(None);
                    let guard = start_transaction("op", name(number));
                    held.push((number, Held::Transaction(guard)));
                }
            }
            Step::Child => {
                let Some(innermost) = model.open.last().copied() else {
                    assert!(!start_child("op", "of nothing").is_recording());
                    continue;
                };
                let number = model.start(Some(innermost));
                held.push((number, Held::Span(start_child("op", name(number)))));
            }
            Step::ChildOf(at) => {
                let Some((parent, guard)) = held.get(at % among) else { continue };
                let child_name = name(model.nodes.len());
                let child = match guard {
                    Held::Transaction(guard) => guard.start_child("op", child_name),
                    Held::Span(guard) => guard.start_child("op", child_name),
                };
                assert_eq!(child.is_recording(), model.nodes[*parent].is_open);
                if model.nodes[*parent].is_open {
                    let number = model.start(Some(*parent));
                    held.push((number, Held::Span(child)));
                }
            }
            Step::Set(at, value) => {
                let Some((number, guard)) = held.get_mut(at % among) else { continue };
                match guard {
                    Held::Transaction(guard) => drop(guard.set_data("value", value)),
                    Held::Span(guard) => drop(guard.set_data("value", value)),
                }
                if model.nodes[*number].is_open {
                    model.nodes[*number].data = Some(value);
                }
            }
            Step::Drop(at) if !held.is_empty() => {
                let (number, guard) = held.remove(at % among);
                drop(guard);
                model.end(number);
            }
            Step::Forget(at) if !held.is_empty() => {
                std::mem::forget(held.remove(at % among));
            }
            Step::Drop(_) | Step::Forget(_) => {}
        }
        let current = hotspan::Hub::current().scope().span();
        assert_eq!(current.is_some(), !model.open.is_empty());
    }
    for (number, guard) in held {
        drop(guard);
        model.end(number);
    }
    model
}

/// A transaction as it arrived, in the form of the model's.
fn tree(opened: &Opened) -> BTreeMap<String, (String, Value)> {
    let mut names = BTreeMap::new();
    names.insert(opened.root()["span_id"].clone().to_string(), opened.name().to_owned());
    for span in opened.spans() {
        let name = span["description"].as_str().unwrap().to_owned();
        assert!(names.insert(span["span_id"].to_string(), name).is_none());
    }
    let data = |span: &Value| span.get("data").cloned().unwrap_or_else(|| json!({}));
    let mut tree = BTreeMap::new();
    let root = opened.name().to_owned();
    tree.insert(root.clone(), (root, data(opened.root())));
    for span in opened.spans() {
        let name = span["description"].as_str().unwrap().to_owned();
        let parent = names[&span["parent_span_id"].to_string()].clone();
        tree.insert(name, (parent, data(span)));
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn programs_leave_the_trees_and_the_counts_of_the_model(
        program in prop::collection::vec(step(), 1..60)
    ) {
        let session = Session::start(|_| {});
        // A thread of its own: what is forgotten ends with it.
        let model = thread::scope(|scope| scope.spawn(|| run(&program)).join().unwrap());
        let before = session.before.clone();
        let ending = session.end();

        let arrived: Vec<_> = ending.transactions.iter().map(tree).collect();
        let expected: Vec<_> = model.ended.iter().map(|root| model.tree(*root)).collect();
        prop_assert_eq!(arrived, expected);

        let started = model.count(|_| true);
        prop_assert_eq!(ending.report.delivered, model.delivered());
        prop_assert_eq!(ending.report.left, Count::default());
        prop_assert_eq!(ending.after.started - before.started, started);
        prop_assert_eq!(ending.lost_in_all(), started - model.delivered());
        prop_assert_eq!(ending.after.late - before.late, model.late);
        prop_assert_eq!(ending.after.misnested - before.misnested, model.misnested);
    }
}

/// A program that is known to need every rule of the model.
#[test]
fn the_model_is_not_vacuous() {
    use Step::*;
    let session = Session::start(|_| {});
    let program =
        [Transaction, Child, Child, Forget(2), ChildOf(1), Drop(1), Set(1, 7), Drop(0), Drop(0)];
    let model = run(&program);
    assert_eq!((model.nodes.len(), model.ended.len(), model.late), (4, 1, 1));
    assert_eq!(model.unfinished[&0], 2);
    assert!(model.misnested > 0);
    let ending = session.end();
    assert_eq!(tree(ending.only()), model.tree(0));
    assert_eq!(stats().late - ending.before.late, 1);
}
