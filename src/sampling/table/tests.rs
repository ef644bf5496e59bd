use proptest::prelude::*;

use super::super::pattern::naive;
use super::*;

fn rule(op: Option<&str>, name: Option<&str>) -> Rule {
    Rule { op: op.map(Into::into), name: name.map(Into::into), ..Rule::default() }
}

fn table(rules: Vec<Rule>) -> Table {
    Table::compile(Sampling { rules, ..Sampling::default() }).unwrap()
}

fn error(rules: Vec<Rule>) -> String {
    match Table::compile(Sampling { rules, ..Sampling::default() }) {
        Ok(_) => panic!("it compiles"),
        Err(error) => error.to_string(),
    }
}

/// The first rule that matches, by the definition alone.
fn scan(rules: &[Rule], op: &str, name: &str) -> Option<u16> {
    let is = |pattern: &Option<String>, text| {
        pattern.as_ref().is_none_or(|pattern| naive::matches(pattern, text))
    };
    let first = rules.iter().position(|rule| is(&rule.op, op) && is(&rule.name, name));
    first.map(|index| u16::try_from(index).unwrap())
}

#[test]
fn the_op_settles_it_where_the_first_rule_for_it_asks_no_name() {
    let table = table(vec![
        rule(Some("queue.*"), Some("orders")),
        rule(Some("db"), None),
        rule(Some("cron"), Some("nightly")),
        rule(Some("c*"), None),
        rule(Some("queue.*"), None),
        rule(None, Some("ping")),
    ]);
    for (op, found) in [
        ("queue.process", Found::ByName),
        ("db", Found::Rule(1)),
        ("cron", Found::ByName),
        ("cache", Found::Rule(3)),
        ("http", Found::ByName),
    ] {
        assert_eq!(table.by_op(op), found, "{op}");
    }
    for (op, name, found) in [
        ("queue.process", "orders", Some(0)),
        ("queue.process", "ping", Some(4)),
        ("cron", "nightly", Some(2)),
        ("cron", "ping", Some(3)),
        ("http", "ping", Some(5)),
        ("http", "pong", None),
    ] {
        assert_eq!(table.by_name(op, name), found, "{op} {name}");
    }
    assert!(table.rule(5).is_some() && table.rule(6).is_none());
    let none = Table::compile(Sampling::default()).unwrap();
    assert_eq!((none.by_op(""), none.by_name("", "")), (Found::NoRule, None));
}

#[test]
fn numbers_are_never_used_twice() {
    let numbers: Vec<u64> = (0..3).map(|_| table(Vec::new()).number).collect();
    assert!(numbers[0] > 0 && numbers[0] < numbers[1] && numbers[1] < numbers[2]);
}

#[test]
fn rules_become_what_decides() {
    let every = Keep {
        slower_than: Some(Duration::from_millis(5)),
        slower_than_p99: true,
        failed: true,
        first: true,
        asked: true,
    };
    let set = Rule {
        rate: Some(0.07),
        parent: Parent::Ignore,
        max_per_second: Some(5.0),
        keep: every,
        ..rule(Some("a"), None)
    };
    let table = Table::compile(Sampling {
        traces_sample_rate: Some(1e-9),
        rules: vec![set, rule(Some("b"), None)],
        max_per_second: Some(0.1),
        floor_per_second: Some(1e9),
        traces_sampler: Some(Arc::new(|context| context.rate().unwrap_or(0.5))),
    })
    .unwrap();
    assert_eq!(table.rate, Some(1), "never rounded to nothing");
    assert!(table.sampler.is_some() && table.cap.is_some() && table.floors.is_some());
    let all = Conditions::SLOW | Conditions::P99 | Conditions::FAILED | Conditions::ASKED;
    let first = table.rule(0).unwrap();
    assert_eq!((first.rate, first.follows_parent, first.first), (Some(70_000), false, true));
    assert_eq!(first.conditions, Conditions::new(all));
    assert_eq!(first.slower_than, Some(Duration::from_millis(5)));
    assert!(first.cap.is_some());
    let second = table.rule(1).unwrap();
    assert_eq!((second.rate, second.follows_parent, second.first), (None, true, false));
    assert_eq!((second.conditions, second.slower_than), (Conditions::new(0), None));
    assert!(second.cap.is_none());
}

#[test]
fn mistakes_name_the_rule_the_field_and_what_would_be_right() {
    const RATE: &str = "expected a number from 0 to 1";
    const PER_SECOND: &str = "expected a number above 0, at most 1000000000";
    let in_second = |second: Rule| error(vec![rule(Some("other"), None), second]);
    let orders = || Rule { id: Some("orders".into()), ..Rule::default() };
    for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let set = Rule { rate: Some(rate), ..orders() };
        assert_eq!(in_second(set), format!("rule 2 (\"orders\"): rate: {RATE}"));
        let set = Sampling { traces_sample_rate: Some(rate), ..Sampling::default() };
        let error = Table::compile(set).err().unwrap();
        assert_eq!(error.to_string(), format!("traces_sample_rate: {RATE}"));
        assert!(error.is_out_of_range());
    }
    for number in [0.0, -0.0, -1.0, 1.1e9, f64::NAN, f64::INFINITY] {
        let set = Rule { max_per_second: Some(number), ..Rule::default() };
        assert_eq!(in_second(set), format!("rule 2: max_per_second: {PER_SECOND}"));
        let set = Sampling { max_per_second: Some(number), ..Sampling::default() };
        let error = Table::compile(set).err().unwrap().to_string();
        assert_eq!(error, format!("max_per_second: {PER_SECOND}"));
        let set = Sampling { floor_per_second: Some(number), ..Sampling::default() };
        let error = Table::compile(set).err().unwrap().to_string();
        assert_eq!(error, format!("floor_per_second: {PER_SECOND}"));
    }
    for time in [Duration::ZERO, DAY + Duration::from_nanos(1)] {
        let keep = Keep { slower_than: Some(time), ..Keep::default() };
        let right = "rule 2: keep.slower_than: expected more than 0 s, at most 1 day";
        assert_eq!(in_second(Rule { keep, ..Rule::default() }), right);
    }
    for (op, right) in [
        ("", "expected a pattern that is not empty (none matches all)"),
        ("a\\", "expected a character after the last `\\`"),
        (&"x".repeat(257), "expected a pattern of at most 256 bytes"),
    ] {
        assert_eq!(in_second(rule(Some(op), None)), format!("rule 2: op: {right}"));
        assert_eq!(in_second(rule(None, Some(op))), format!("rule 2: name: {right}"));
    }
    let shown =
        format!("rule 1 (\"{}\"…): id: expected a text of at most 200 bytes", "i".repeat(40));
    assert_eq!(error(vec![Rule { id: Some("i".repeat(201)), ..Rule::default() }]), shown);
}

#[test]
fn bounds_themselves_are_right() {
    let keep = |time| Keep { slower_than: Some(time), ..Keep::default() };
    let rules = vec![
        Rule {
            rate: Some(0.0),
            max_per_second: Some(1e9),
            keep: keep(DAY),
            ..rule(Some(&"x".repeat(256)), None)
        },
        Rule {
            id: Some("i".repeat(200)),
            rate: Some(1.0),
            max_per_second: Some(f64::MIN_POSITIVE),
            keep: keep(Duration::from_nanos(1)),
            ..Rule::default()
        },
    ];
    assert_eq!(table(rules).compiled.len(), 2);
    let many = |count: usize| (0..count).map(|n| rule(Some(&n.to_string()), None)).collect();
    assert_eq!(table(many(1000)).by_op("999"), Found::Rule(999));
    assert_eq!(error(many(1001)), "rules: expected at most 1000");
}

#[test]
fn a_rule_that_no_item_reaches_is_a_mistake_that_names_both() {
    let named = |id: &str, rule: Rule| Rule { id: Some(id.into()), ..rule };
    let earlier = |one: Rule, other: Rule| error(vec![rule(Some("x"), None), one, other]);
    let same = || rule(Some("queue.*"), Some("orders"));
    assert_eq!(
        earlier(named("one", same()), named("two", same())),
        r#"rule 3 ("two"): no item reaches it: rule 2 ("one") matches all that it would"#,
    );
    let all = "rule 3: no item reaches it: rule 2 matches all that it would";
    assert_eq!(earlier(rule(None, None), same()), all);
    assert_eq!(earlier(rule(Some("**"), None), same()), all);
    assert_eq!(earlier(rule(Some("queue.**"), Some("orders")), same()), all);
    assert_eq!(earlier(rule(None, Some("orders")), same()), all);
    assert_eq!(earlier(rule(Some("q*"), None), rule(Some("queue.process"), Some("a?c"))), all);
    // What may be reached: the name, the op or the order differ.
    table(vec![same(), rule(Some("queue.*"), Some("order"))]);
    table(vec![rule(Some("queue.?"), Some("orders")), same()]);
    table(vec![same(), rule(None, None)]);
    // A glob is not tried, though it would match.
    table(vec![rule(Some("*.process"), None), rule(Some("queue.process"), None)]);
}

#[test]
fn a_cap_that_stays_keeps_its_place() {
    let capped = |op: &str, per_second: f64| Rule {
        max_per_second: Some(per_second),
        ..rule(Some(op), None)
    };
    let set = |rules, cap, floor| Sampling {
        rules,
        max_per_second: Some(cap),
        floor_per_second: Some(floor),
        ..Sampling::default()
    };
    let before = Table::compile(set(vec![capped("a", 1.0), capped("b", 2.0)], 10.0, 0.5)).unwrap();
    // Moved, with another rate: still the same items, as many.
    let moved = Rule { rate: Some(0.5), ..capped("a", 1.0) };
    let rules = vec![capped("b", 3.0), moved, capped("c", 1.0)];
    let after = Table::compile_after(set(rules, 10.0, 0.5), &before).unwrap();
    let of = |table: &Table, index| Arc::clone(table.rule(index).unwrap().cap.as_ref().unwrap());
    assert!(Arc::ptr_eq(&of(&before, 0), &of(&after, 1)));
    assert!(!Arc::ptr_eq(&of(&before, 1), &of(&after, 0)));
    assert!(!Arc::ptr_eq(&of(&before, 0), &of(&after, 2)));
    let same = |one: &Table, other: &Table| {
        let caps = (one.cap.as_ref().unwrap(), other.cap.as_ref().unwrap());
        let floors = (one.floors.as_ref().unwrap(), other.floors.as_ref().unwrap());
        (Arc::ptr_eq(caps.0, caps.1), Arc::ptr_eq(floors.0, floors.1))
    };
    assert_eq!(same(&before, &after), (true, true));
    let other = Table::compile_after(set(Vec::new(), 11.0, 0.5), &after).unwrap();
    assert_eq!(same(&after, &other), (false, true));
    let other = Table::compile_after(set(Vec::new(), 11.0, 0.6), &other).unwrap();
    assert_eq!(same(&after, &other), (false, false));
    assert_ne!(before.number, after.number);
    assert_eq!((after.session, other.session), (before.number, before.number));
}

/// Compiles what is left when each rule that cannot be reached is taken out, having looked that it
/// cannot.
fn reachable(mut rules: Vec<Rule>, probes: &[(String, String)]) -> (Vec<Rule>, Table) {
    loop {
        match Table::compile(Sampling { rules: rules.clone(), ..Sampling::default() }) {
            Ok(table) => return (rules, table),
            Err(error) => {
                assert!(error.to_string().contains("no item reaches it"), "{error}");
                let index = error.rule().unwrap() - 1;
                for (op, name) in probes {
                    assert_ne!(scan(&rules, op, name).map(usize::from), Some(index), "{rules:?}");
                }
                rules.remove(index);
            }
        }
    }
}

/// All texts of up to so many of these parts.
fn words(parts: &[&str], count_max: usize) -> Vec<String> {
    let (mut words, mut last) = (vec![String::new()], vec![String::new()]);
    for _ in 0..count_max {
        let longer = |part| last.iter().map(move |word| format!("{word}{part}"));
        last = parts.iter().flat_map(longer).collect();
        words.extend_from_slice(&last);
    }
    words
}

/// Short ones of few letters, so that they meet.
fn patterns() -> impl Strategy<Value = Option<String>> {
    let mut all = words(&["a", "b", "*", "?", r"\*"], 3);
    all.remove(0);
    let plain = words(&["a", "b"], 2).split_off(1);
    let select = |words: Vec<String>| prop::sample::select(words).prop_map(Some);
    prop_oneof![2 => Just(None), 3 => select(plain), 4 => select(all)]
}

fn texts() -> impl Strategy<Value = String> {
    prop::sample::select(words(&["a", "b", "*"], 3))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_first_rule_in_order_wins_as_by_a_scan(
        rules in prop::collection::vec((patterns(), patterns()), 0..24),
        probes in prop::collection::vec((texts(), texts()), 16),
    ) {
        let rules = rules.into_iter().map(|(op, name)| Rule { op, name, ..Rule::default() });
        let (rules, table) = reachable(rules.collect(), &probes);
        for (op, name) in &probes {
            let expected = scan(&rules, op, name);
            prop_assert_eq!(table.by_name(op, name), expected, "{:?}: {} {}", rules, op, name);
            match table.by_op(op) {
                Found::Rule(index) => prop_assert_eq!(Some(index), expected),
                Found::NoRule => prop_assert_eq!(None, expected),
                Found::ByName => {
                    // It is not said of an op that needs no name.
                    let is = |pattern: &String| naive::matches(pattern, op);
                    let first = rules.iter().find(|rule| rule.op.as_ref().is_none_or(is));
                    let asks = |rule: &Rule| {
                        rule.name.as_ref().is_some_and(|name| name.chars().any(|it| it != '*'))
                    };
                    prop_assert!(first.is_some_and(asks), "{rules:?}: {op}");
                }
            }
        }
    }
}
