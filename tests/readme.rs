//! What the README says to copy can be copied.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use hotspan::{Config, Delivery, Sampling};

/// The first block of this language under a heading.
fn block<'a>(readme: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0
}

#[test]
fn the_rules_file_of_the_readme_is_taken_as_it_is() {
    let readme = include_str!("../README.md");
    let text = block(readme, "Tuning sampling", "json");
    let expected: Sampling = serde_json::from_str(text).unwrap();
    let _guard = hotspan::init(Config {
        transport: Delivery::Null,
        traces_sample_rate: Some(0.0),
        ..Config::default()
    })
    .unwrap();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme_rules.json");
    std::fs::write(&path, text).unwrap();
    let _watch = hotspan::watch_rules(&path).unwrap();
    let sampling = hotspan::sampling().unwrap();
    assert_eq!(sampling.rules, expected.rules);
    assert_eq!(sampling.max_per_second, Some(25.0));
    assert_eq!(sampling.floor_per_second, Some(0.02));
    assert_eq!(sampling.rules.len(), 3);
    assert_eq!(sampling.rules[1].keep.slower_than, Some(Duration::from_secs(2)));

    // What it says of single items.
    drop(hotspan::start_transaction("health.live", "probe"));
    hotspan::start_transaction("queue.process", "orders").keep();
    let mut discarded = hotspan::start_transaction("queue.process", "orders");
    discarded.discard();
    drop(discarded);
    let stats = hotspan::stats();
    assert_eq!((stats.unsampled, stats.discarded.transactions), (1, 1));
}
