//! What people write: [`Sampling`] with its [`Rule`]s. Nothing is checked here; `table.rs` does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::context::SamplingContext;
use crate::read::{self, FromScalar};

/// A function that says for each transaction how likely it is to be kept, 0 to 1.
///
/// It runs on the thread that begins the transaction, and should be quick. What is no number from 0
/// to 1 is counted and keeps nothing; a panic is counted, and then it is as if there were no
/// sampler.
///
/// ```
/// use std::sync::Arc;
/// use hotspan::TracesSampler;
///
/// let sampler: TracesSampler =
///     Arc::new(|context| if context.op() == "queue.process" { 0.1 } else { 0.01 });
/// # drop(sampler);
/// ```
pub type TracesSampler = Arc<dyn Fn(&SamplingContext<'_>) -> f64 + Send + Sync>;

/// Which transactions are kept: what can be changed while the program runs.
///
/// ```
/// use hotspan::{Rule, Sampling};
///
/// let sampling = Sampling {
///     traces_sample_rate: Some(0.01),
///     rules: vec![Rule { op: Some("health".into()), rate: Some(0.0), ..Rule::default() }],
///     max_per_second: Some(50.0),
///     ..Sampling::default()
/// };
/// # assert_eq!(sampling.rules.len(), 1);
/// ```
///
/// # From a file
/// Every field but the sampler, in any self-describing format of serde. A field that is left out
/// keeps its default, one that does not exist is an error, durations are seconds.
///
/// ```
/// let sampling: hotspan::Sampling = serde_json::from_str(
///     r#"{
///         "traces_sample_rate": 0.01,
///         "max_per_second": 50,
///         "floor_per_second": 0.1,
///         "rules": [
///             {"op": "health*", "rate": 0},
///             {"id": "orders", "op": "queue.process", "name": "orders", "max_per_second": 10,
///              "keep": {"slower_than": 0.5, "failed": true}}
///         ]
///     }"#,
/// )?;
/// assert_eq!(sampling.rules[1].keep.slower_than.unwrap().as_millis(), 500);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// The share of transactions to keep where neither a sampler, nor the caller's decision, nor a
    /// rule says otherwise: 0 to 1. Default: none, which turns tracing off unless there is a
    /// sampler; 0 leaves it on.
    #[serde(deserialize_with = "read::open_number")]
    pub traces_sample_rate: Option<f64>,
    /// Asked for each transaction for which nothing explicit was said. Default: none. Not read from
    /// files.
    #[serde(skip)]
    pub traces_sampler: Option<TracesSampler>,
    /// Of these the first that matches applies, and no other. At most 1,000. Default: none.
    #[serde(deserialize_with = "read::objects")]
    pub rules: Vec<Rule>,
    /// How many transactions are kept in a second, all together. More than 0, at most
    /// 1,000,000,000; below 1 it is one now and then (0.1: one in ten seconds). Default: no cap.
    ///
    /// A cap lowers the rate of what is offered as far as it takes, so that the rates which the
    /// server is told stay true. It holds back what callers of this process decided to keep, too;
    /// what code decided explicitly is not held back.
    #[serde(deserialize_with = "read::open_number")]
    pub max_per_second: Option<f64>,
    /// How many transactions of each op are kept in a second although the rates would keep fewer,
    /// so that a rare op is seen. More than 0, at most 1,000,000,000. Default: no floor.
    ///
    /// It is above caps, and counts towards them. It does not lift what a rule or the sampler gives
    /// a rate of 0, nor what a parent left out. The first 256 ops have one.
    #[serde(deserialize_with = "read::open_number")]
    pub floor_per_second: Option<f64>,
}

impl fmt::Debug for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that a new field cannot be forgotten.
        let Self { traces_sample_rate, traces_sampler, rules, max_per_second, floor_per_second } =
            self;
        f.debug_struct("Sampling")
            .field("traces_sample_rate", traces_sample_rate)
            .field("traces_sampler", &traces_sampler.as_ref().map(|_| format_args!("..")))
            .field("rules", rules)
            .field("max_per_second", max_per_second)
            .field("floor_per_second", floor_per_second)
            .finish()
    }
}

/// What applies to the transactions whose op and name match.
///
/// In a pattern `*` stands for any run of characters, also none, `?` for one character, and `\`
/// takes the next character as it is. Case matters. A pattern has 1 to 256 bytes.
///
/// ```
/// use hotspan::{Keep, Rule};
///
/// let rule = Rule {
///     id: Some("orders".into()),
///     op: Some("queue.*".into()),
///     name: Some("orders".into()),
///     rate: Some(0.02),
///     keep: Keep { failed: true, ..Keep::default() },
///     ..Rule::default()
/// };
/// # assert!(rule.keep.failed);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// What errors call it, besides its position. At most 200 bytes. Default: none.
    #[serde(deserialize_with = "read::open_text")]
    pub id: Option<String>,
    /// The pattern for the op. Default: none, which matches all.
    #[serde(deserialize_with = "read::open_text")]
    pub op: Option<String>,
    /// The pattern for the name that the transaction begins with. Default: none, which matches all.
    #[serde(deserialize_with = "read::open_text")]
    pub name: Option<String>,
    /// The share to keep, 0 to 1. Default: none, which is
    /// [`traces_sample_rate`](Sampling::traces_sample_rate).
    #[serde(deserialize_with = "read::open_number")]
    pub rate: Option<f64>,
    /// Whether the decision of the caller of this process counts. Default: it does.
    pub parent: Parent,
    /// How many are kept in a second by this rule; as
    /// [`max_per_second`](Sampling::max_per_second) of all. Default: no cap.
    #[serde(deserialize_with = "read::open_number")]
    pub max_per_second: Option<f64>,
    /// What is kept when it ends although the rate would not have kept it. Default: nothing.
    #[serde(deserialize_with = "read::object")]
    pub keep: Keep,
}

/// Whether a trace that comes from elsewhere is kept as was decided there.
///
/// ```
/// use hotspan::{Parent, Rule};
///
/// // A queue that strangers write to.
/// let rule = Rule { parent: Parent::Ignore, rate: Some(0.01), ..Rule::default() };
/// # assert_ne!(rule.parent, Parent::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parent {
    /// As was decided there. In files: `"follow"`.
    #[default]
    Follow,
    /// By the rates of this process alone. In files: `"ignore"`.
    Ignore,
}

impl FromScalar for Parent {
    const EXPECTED: &'static str = r#""follow" or "ignore""#;

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "follow" => Some(Self::Follow),
            "ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Parent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        read::word(from)
    }
}

/// What is kept at its end, whatever its rate; all of it within the caps.
///
/// With any of these a transaction that the rate would not keep is recorded until its end.
///
/// ```
/// use hotspan::Keep;
/// use std::time::Duration;
///
/// let keep = Keep {
///     slower_than: Some(Duration::from_millis(500)),
///     failed: true,
///     ..Keep::default()
/// };
/// # assert!(!keep.first);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// What took longer than this. More than 0, at most 1 day; in files, seconds. Default: none.
    #[serde(deserialize_with = "read::open_seconds")]
    pub slower_than: Option<Duration>,
    /// What took longer than 99 of 100 with the same name, as far as seen. Default: no.
    #[serde(deserialize_with = "read::switch")]
    pub slower_than_p99: bool,
    /// What ended with a status other than ok. Default: no.
    #[serde(deserialize_with = "read::switch")]
    pub failed: bool,
    /// The first of its name in this process. Default: no.
    #[serde(deserialize_with = "read::switch")]
    pub first: bool,
    /// What code asked for, by `keep()` on the transaction. Default: no.
    #[serde(deserialize_with = "read::switch")]
    pub asked: bool,
}
