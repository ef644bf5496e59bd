use std::time::Duration;

use super::super::Table;
use super::super::rule::{Keep, Parent, Rule};
use super::*;

fn edits(text: &str) -> Edits {
    parse(text.as_bytes()).unwrap()
}

/// What is wrong, by reading or by compiling.
fn error(text: impl AsRef<[u8]>) -> String {
    let error = match parse(text.as_ref()) {
        Ok(edits) => match Table::compile(edits.over(&Sampling::default())) {
            Ok(_) => panic!("it is right"),
            Err(error) => error,
        },
        Err(error) => error,
    };
    error.to_string()
}

#[test]
fn every_field_is_read() {
    let sampling = edits(
        r#"{
            "traces_sample_rate": 0.25,
            "max_per_second": 50,
            "floor_per_second": 0.1,
            "rules": [
                {"id": "orders", "op": "queue.*", "name": "order \"s\" é", "rate": 1,
                 "parent": "ignore", "max_per_second": 5,
                 "keep": {"slower_than": 0.5, "slower_than_p99": true, "failed": true,
                          "first": true, "asked": true}},
                {"parent": "follow", "op": null, "keep": {"slower_than": 2}},
                {}
            ]
        }"#,
    )
    .over(&Sampling::default());
    assert_eq!(sampling.traces_sample_rate, Some(0.25));
    assert_eq!((sampling.max_per_second, sampling.floor_per_second), (Some(50.0), Some(0.1)));
    let orders = Rule {
        id: Some("orders".into()),
        op: Some("queue.*".into()),
        name: Some("order \"s\" é".into()),
        rate: Some(1.0),
        parent: Parent::Ignore,
        max_per_second: Some(5.0),
        keep: Keep {
            slower_than: Some(Duration::from_millis(500)),
            slower_than_p99: true,
            failed: true,
            first: true,
            asked: true,
        },
    };
    let keep = Keep { slower_than: Some(Duration::from_secs(2)), ..Keep::default() };
    let second = Rule { keep, ..Rule::default() };
    assert_eq!(sampling.rules, [orders, second, Rule::default()]);
}

#[test]
fn what_is_left_out_stays_as_the_program_says_and_null_is_none() {
    let program = Sampling {
        traces_sample_rate: Some(0.5),
        traces_sampler: Some(std::sync::Arc::new(|_| 0.5)),
        rules: vec![Rule { rate: Some(0.1), ..Rule::default() }],
        max_per_second: Some(5.0),
        floor_per_second: Some(1.0),
    };
    let same = |sampling: &Sampling| {
        assert!(sampling.traces_sampler.is_some());
        [
            sampling.traces_sample_rate == program.traces_sample_rate,
            sampling.rules == program.rules,
            sampling.max_per_second == program.max_per_second,
            sampling.floor_per_second == program.floor_per_second,
        ]
    };
    assert_eq!(same(&edits("{}").over(&program)), [true; 4]);
    let nothing = edits(
        r#"{"traces_sample_rate": null, "rules": [], "max_per_second": null,
            "floor_per_second": null}"#,
    )
    .over(&program);
    assert_eq!((nothing.traces_sample_rate, nothing.rules.len()), (None, 0));
    assert_eq!((nothing.max_per_second, nothing.floor_per_second), (None, None));
    for (key, value) in [
        ("traces_sample_rate", "1"),
        ("rules", "[]"),
        ("max_per_second", "1"),
        ("floor_per_second", "9"),
    ] {
        let one = edits(&format!(r#"{{"{key}": {value}}}"#)).over(&program);
        assert_eq!(same(&one).iter().filter(|it| !**it).count(), 1, "{key}");
    }
    // A key of a rule is none of the file's.
    let one = edits(r#"{"rules": [{"max_per_second": 2}, {"rate": null}]}"#).over(&program);
    assert_eq!(same(&one), [true, false, true, true]);
}

#[test]
fn what_a_file_no_longer_has_is_as_the_program_says() {
    let mut sampling = Sampling {
        traces_sample_rate: Some(0.5),
        max_per_second: Some(5.0),
        ..Sampling::default()
    };
    let first = edits(r#"{"traces_sample_rate": 0.1, "rules": [{}]}"#);
    let hidden = first.lay(&mut sampling, &Edits::default());
    assert_eq!((sampling.traces_sample_rate, sampling.rules.len()), (Some(0.1), 1));
    // The program changes what the file does not have, and what it has.
    sampling.max_per_second = Some(7.0);
    sampling.traces_sample_rate = Some(0.9);
    let second = edits(r#"{"traces_sample_rate": 0.2, "floor_per_second": 1}"#);
    let hidden = second.lay(&mut sampling, &hidden);
    assert_eq!((sampling.traces_sample_rate, sampling.rules.len()), (Some(0.2), 0));
    assert_eq!((sampling.max_per_second, sampling.floor_per_second), (Some(7.0), Some(1.0)));
    let hidden = edits("{}").lay(&mut sampling, &hidden);
    assert_eq!((sampling.traces_sample_rate, sampling.floor_per_second), (Some(0.5), None));
    assert_eq!(hidden, Edits::default());
}

#[test]
fn mistakes_name_the_rule_and_the_field() {
    const NUMBER: &str = "expected a number or null";
    for (text, expected) in [
        (r#"{"rules": [{}, {"id": "b", "rate": "x"}]}"#, r#"rule 2 ("b"): rate: "#),
        (r#"{"rules": [{}, {"rate": [1], "id": "b"}]}"#, r#"rule 2 ("b"): rate: "#),
        (r#"{"rules": [{"rate": {}, "id": 5}]}"#, "rule 1: rate: "),
        (r#"{"rules": [{"max_per_second": true}]}"#, "rule 1: max_per_second: "),
        (r#"{"max_per_second": "x"}"#, "max_per_second: "),
        (r#"{"floor_per_second": {}}"#, "floor_per_second: "),
    ] {
        assert_eq!(error(text), format!("{expected}{NUMBER}"), "{text}");
    }
    for (text, expected) in [
        ("5", "expected an object"),
        ("null", "expected an object"),
        ("[]", "expected an object"),
        (r#""x""#, "expected an object"),
        (r#"{"rules": {}}"#, "rules: expected a list of objects"),
        (r#"{"rules": null}"#, "rules: expected a list of objects"),
        (r#"{"rules": "x"}"#, "rules: expected a list of objects"),
        (r#"{"rules": [{}, 5]}"#, "rule 2: expected an object"),
        (r#"{"rules": [{}, []]}"#, "rule 2: expected an object"),
        (r#"{"rules": [{"id": 5}]}"#, "rule 1: id: expected a text or null"),
        (r#"{"rules": [{"op": ["x"]}]}"#, "rule 1: op: expected a text or null"),
        (r#"{"rules": [{"keep": true}]}"#, "rule 1: keep: expected an object"),
        (r#"{"rules": [{"keep": {"failed": 1}}]}"#, "rule 1: keep.failed: expected true or false"),
        (
            r#"{"rules": [{"keep": {"slower_than": -1}}]}"#,
            "rule 1: keep.slower_than: expected a number of seconds, not negative, or null",
        ),
        (
            r#"{"rules": [{"keep": {"slower_than": 0}}]}"#,
            "rule 1: keep.slower_than: expected more than 0 s, at most 1 day",
        ),
        (
            r#"{"rules": [{"parent": "Follow"}]}"#,
            r#"rule 1: parent: expected "follow" or "ignore""#,
        ),
        (r#"{"rules": [{"parent": null}]}"#, r#"rule 1: parent: expected "follow" or "ignore""#),
        (r#"{"rules": [{"rate": 1, "rate": 1}]}"#, "rule 1: rate is there twice"),
        (r#"{"rules": [], "rules": []}"#, "rules is there twice"),
        (
            r#"{"rules": [{"id": "a b", "ratio": 1}]}"#,
            "rule 1 (\"a b\"): unknown field \"ratio\", expected one of \
             id, op, name, rate, parent, max_per_second, keep",
        ),
        (
            r#"{"traces_sampler": 1}"#,
            "unknown field \"traces_sampler\", expected one of \
             traces_sample_rate, rules, max_per_second, floor_per_second",
        ),
        (
            r#"{"rules": [{"keep": {"slow": 1}}]}"#,
            "rule 1: keep: unknown field \"slow\", expected one of \
             slower_than, slower_than_p99, failed, first, asked",
        ),
        (r#"{"rules": [{"rate": 1.5}]}"#, "rule 1: rate: expected a number from 0 to 1"),
        (
            r#"{"rules": [{}, {"id": "late"}]}"#,
            r#"rule 2 ("late"): no item reaches it: rule 1 matches all that it would"#,
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_json_is_told_with_its_line() {
    for (text, expected) in [
        ("", "expected JSON"),
        (" \n", "expected JSON"),
        ("// rules\n{}", "expected JSON"),
        ("{\n\"rules\": [1,\n]}", "expected JSON; it breaks off at line 3"),
        ("{\n\"max_per_second\": 1e999}", "expected JSON; it breaks off at line 2"),
        ("{\"a\": 1}\n{}", "expected JSON; it breaks off at line 1"),
        ("{\"rules\":[{}}", "expected JSON; it breaks off at line 1"),
        ("{\"rules\":[{\"id\": \"a]}", "expected JSON"),
        ("{\"a\": \"\\q\"}", "expected JSON"),
        ("{\"rules\":[{\"rate\":", "expected JSON"),
    ] {
        let error = error(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
    assert_eq!(error(b"{\"\xff\": 1}"), "expected JSON in UTF-8");
}

#[test]
fn size_and_depth_are_bounded() {
    let mut big = b"{}".to_vec();
    big.resize(FILE_MAX, b' ');
    assert!(parse(&big).is_ok());
    big.push(b' ');
    assert_eq!(error(&big), "expected a file of at most 1 MiB");
    let deep = "[".repeat(FILE_MAX);
    assert_eq!(error(&deep), "expected lists and objects at most 8 deep");
    let deep = format!("{}{}", "{\"rules\":".repeat(9), "}".repeat(9));
    assert_eq!(error(&deep), "expected lists and objects at most 8 deep");
    assert!(parse(b"\xef\xbb\xbf{}").is_ok());
}

#[test]
fn little_of_the_file_is_repeated() {
    let secret = "https://secret@example.com/1?".repeat(10);
    for text in [
        format!("{{\"{secret}\": 1}}"),
        format!("{{\"rules\": [{{\"{secret}\": 1}}]}}"),
        format!("{{\"rules\": \"{secret}\"}}"),
        format!("{{\"rules\": [\"{secret}\"]}}"),
        format!("{{\"rules\": [{{\"keep\": \"{secret}\"}}]}}"),
        format!("{{\"rules\": [{{\"keep\": {{\"{secret}\": 1}}}}]}}"),
        format!("{{\"rules\": [{{\"parent\": \"{secret}\"}}]}}"),
        format!("{{\"rules\": [{{\"rate\": \"{secret}\"}}]}}"),
        format!("{{\"rules\": [{{\"id\": \"{secret}\", \"rate\": 7}}]}}"),
        format!("{{\"rules\": [{{\"op\": \"{secret}\\\\\\\\\\\\\"}}]}}"),
        format!("{{\"max_per_second\": \"{secret}\"}}"),
        format!("\"{secret}\""),
        format!("{{\"a\": {secret}}}"),
        secret.clone(),
    ] {
        let error = error(&text);
        let cut: String = secret.chars().take(41).collect();
        assert!(!error.contains(&cut), "{error}");
    }
}
