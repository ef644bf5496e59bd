//! House rules that no compiler checks: who may name whom, where atomics live, what an ordering
//! owes its reader, how wide and how long a file may be.
//!
//! Each rule is a function from a file's path and text to its complaints, and is fed a planted
//! violation before it is let loose on the tree: a rule that finds nothing there would be found
//! out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "helpers of tests panic as tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A path inside the package with `/`, and the text.
type Source = (String, String);

#[test]
fn layers_name_only_what_is_below_them() {
    assert_bites(layers, "src/record/a.rs", "use crate::flush::queue::Queue;");
    assert_bites(layers, "src/flush/a.rs", "fn f() { crate::record::admit(); }");
    assert_bites(layers, "src/flush/a/b.rs", "use crate::{\n    record::LOCAL,\n};");
    assert_bites(layers, "src/flush/a.rs", "use crate::span::Span;");
    assert_bites(layers, "src/shared/a.rs", "use crate::record::LOCAL;");
    assert_bites(layers, "src/shared/a.rs", "use crate::stats;");
    assert_bites(layers, "src/shared/a.rs", "use crate::{Transaction, shared::id};");
    assert_bites(layers, "src/shared/id.rs", "use super::ring::Ring;");
    assert_bites(layers, "src/shared/ring/tests.rs", "use crate::shared::registry::Lane;");
    assert_bites(layers, "src/shared/free_list.rs", "use super::{arena, id};");
    assert_bites(layers, "src/propagate/a.rs", "use crate::record::LOCAL;");
    assert_passes(layers, "src/record/a.rs", "use crate::shared::ring::Ring; // not crate::flush");
    assert_passes(layers, "src/flush/a.rs", "use crate::flush::queue; use crate::shared::id;");
    assert_passes(
        layers,
        "src/shared/ring.rs",
        "use super::{arena, layout::Slot, sync::AtomicU64};",
    );
    assert_passes(layers, "src/guard.rs", "use crate::{flush::client, record, shared};");
    check(layers, &sources());
}

#[test]
fn atomics_come_from_one_place_where_loom_must_see_them() {
    assert_bites(atomics, "src/shared/ring.rs", "use std::sync::atomic::AtomicU64;");
    assert_bites(atomics, "src/record/a.rs", "use core::sync::atomic::AtomicU64;");
    assert_bites(atomics, "src/shared/ring.rs", "use std::sync::{Arc, atomic::AtomicU64};");
    assert_passes(atomics, "src/shared/sync.rs", "pub use std::sync::atomic::AtomicU64;");
    check(atomics, &sources());
}

#[test]
fn every_ordering_says_what_it_pairs_with() {
    let far = "// ORDERING: it pairs\n\n\n\n\n\n\na.load(Ordering::Acquire)";
    assert_bites(orderings, "src/a.rs", "a.load(Ordering::Acquire)");
    assert_bites(orderings, "src/a.rs", far);
    assert_bites(orderings, "src/a.rs", "fence(Ordering::SeqCst);");
    assert_bites(orderings, "src/a.rs", "a.swap(1, Std::AcqRel); // no note");
    assert_passes(
        orderings,
        "src/a.rs",
        "// ORDERING: Release, with b\n\na.store(1, Ordering::Release)",
    );
    assert_passes(orderings, "src/a.rs", "a.load(Ordering::Relaxed); // Release is elsewhere");
    check(orderings, &sources());
}

#[test]
fn files_fit_a_screen_and_a_sitting() {
    assert_bites(shape, "src/a.rs", &format!("// {}", "x".repeat(98)));
    assert_bites(shape, "src/a.rs", &"a\n".repeat(501));
    assert_bites(shape, "src/a.rs", "trailing \n");
    assert_bites(shape, "src/a.rs", "\ttab\n");
    assert_passes(shape, "src/a.rs", &format!("// {}\n", "ä".repeat(97)));
    assert_passes(shape, "src/a/tests.rs", &"a\n".repeat(501));
    let tests = format!(
        "#[cfg(test)]\nmod a;\n#[cfg(all(test, b))]\nmod tests {{\n{}}}\n",
        "a\n".repeat(501)
    );
    assert_passes(shape, "src/a.rs", &tests);
    check(shape, &sources());
}

#[test]
fn nothing_is_unsafe_or_unwritten() {
    assert_bites(honest, "src/lib.rs", "mod a;");
    assert_bites(honest, "src/a.rs", "fn f() { unsafe { g() } }");
    assert_bites(honest, "src/a.rs", "unsafe impl Send for A {}");
    assert_bites(honest, "src/a.rs", "todo!()");
    assert_bites(honest, "src/a.rs", "fn f() { unimplemented!(\"later\") }");
    assert_bites(honest, "src/a.rs", "// TODO: later");
    assert_passes(honest, "src/lib.rs", "#![forbid(unsafe_code)]\n// no unsafe here");
    check(honest, &sources());
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    for path in ["/home/somebody/x", "/Users/somebody/x", "/root/x", "C:\\Users\\x", "/tmp/x"] {
        assert_bites(machine, "README.md", &format!("see {path} there"));
    }
    assert_passes(machine, "README.md", "https://example.com/home/x, target/hotspan/, /proc/self");
    check(machine, &tracked());
}

/// The layer of a file, and what it may name of the crate.
fn layers(path: &str, text: &str) -> Vec<String> {
    let code = code_of(path, text);
    let Some(inside) = path.strip_prefix("src/") else { return Vec::new() };
    let mut named = named_after(&code, "crate::");
    let allowed: &[&str] = match inside.split('/').next() {
        // Values and statuses are what users hand in; the crate's root is not theirs to name.
        Some("record") => &["record", "sampling", "propagate", "shared", "value", "status"],
        Some("flush") => &["flush", "sampling", "propagate", "shared", "status", "transport"],
        Some("shared") => &["shared"],
        // Settings are read as everywhere.
        Some("sampling") => &["sampling", "shared", "read"],
        Some("propagate") => &["propagate", "shared"],
        _ => return Vec::new(),
    };
    let mut complaints = Vec::new();
    for (line, name) in &named {
        if !allowed.contains(&name.as_str()) {
            complaints.push(format!("{path}:{line}: names crate::{name}"));
        }
    }
    if let Some(own) = inside.strip_prefix("shared/") {
        named = named_after(&code, "crate::shared::");
        if !own.contains('/') {
            named.extend(named_after(&code, "super::"));
        }
        complaints.extend(within_shared(path, own, &named));
    }
    complaints
}

/// `shared/mod.rs` draws this; a file names what stands behind it, or itself.
const SHARED: [&[&str]; 6] = [
    &["registry", "settings", "payload"],
    &["ring", "names", "traces"],
    &["seqlock", "arena"],
    &["free_list", "layout"],
    &["id", "clock", "ledger"],
    &["per_process"],
];

fn within_shared(path: &str, own: &str, named: &[(usize, String)]) -> Vec<String> {
    let module = own.trim_end_matches(".rs").split('/').next().unwrap_or_default();
    if module == "mod" {
        return Vec::new();
    }
    let level = |name: &str| match name {
        "sync" => Some(SHARED.len()),
        _ => SHARED.iter().position(|level| level.contains(&name)),
    };
    let Some(ours) = level(module) else {
        return vec![format!("{path}: has no place in the drawing of shared/mod.rs")];
    };
    named
        .iter()
        .filter(|(_, name)| name != module)
        .filter(|(_, name)| level(name).is_some_and(|theirs| theirs <= ours))
        .map(|(line, name)| format!("{path}:{line}: names shared::{name}, which is not below it"))
        .collect()
}

/// The modules that `std`'s atomics may be named in, with the reason.
const ATOMICS: [(&str, &str); 5] = [
    ("src/shared/sync.rs", "the switch between std and loom"),
    ("src/shared/ledger.rs", "counters, Relaxed, in a static that loom's cannot be in"),
    ("src/shared/registry.rs", "a static; hands nothing over by itself"),
    ("src/shared/names.rs", "a static; hands nothing over by itself"),
    ("src/name.rs", "users' statics; Relaxed"),
];

fn atomics(path: &str, text: &str) -> Vec<String> {
    if ATOMICS.iter().any(|(allowed, _)| *allowed == path) {
        return Vec::new();
    }
    let code = code_of(path, text);
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| {
            line.contains("sync::atomic")
                || (line.contains("use std::sync::{") && line.contains("atomic"))
        })
        .map(|(at, _)| format!("{path}:{}: atomics that loom does not see", at + 1))
        .collect()
}

/// How far above its line a note may begin.
const NOTE_LINES: usize = 6;

fn orderings(path: &str, text: &str) -> Vec<String> {
    let code = code_of(path, text);
    let notes: Vec<&str> = text.lines().collect();
    let mut complaints = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let strong = ["Acquire", "Release", "AcqRel", "SeqCst"].iter().any(|name| {
            ["Ordering::", "Std::"].iter().any(|of| line.contains(&format!("{of}{name}")))
        });
        let above = at.saturating_sub(NOTE_LINES)..at;
        if strong && !notes[above].iter().any(|note| note.contains("// ORDERING:")) {
            complaints.push(format!("{path}:{}: no `// ORDERING:` above", at + 1));
        }
    }
    complaints
}

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 500;

fn shape(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        // A row of a table cannot be folded, nor can an address.
        let is_whole = line.contains("https://") || line.trim_start().starts_with("//! |");
        if columns > COLUMNS_MAX && !is_whole {
            complaints.push(format!("{path}:{}: {columns} columns", at + 1));
        }
        if line.ends_with(' ') || line.contains('\t') {
            complaints.push(format!("{path}:{}: a space at the end, or a tab", at + 1));
        }
    }
    // Tests at the foot, or in a file of their own, may be as long as they need.
    let lines = code_of(path, text).lines().count();
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
    if lines > LINES_MAX && !is_test && path.starts_with("src/") {
        complaints.push(format!("{path}: {lines} lines"));
    }
    complaints
}

fn honest(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let code = whole_code(text);
    if path == "src/lib.rs" && !code.contains("#![forbid(unsafe_code)]") {
        complaints.push(format!("{path}: does not forbid unsafe code"));
    }
    for (at, line) in code.lines().enumerate() {
        let words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
        if words.clone().any(|word| word == "unsafe") {
            complaints.push(format!("{path}:{}: unsafe", at + 1));
        }
        if line.contains("todo!") || line.contains("unimplemented!") {
            complaints.push(format!("{path}:{}: not written yet", at + 1));
        }
    }
    for (at, line) in text.lines().enumerate() {
        if line.contains(concat!("TO", "DO")) || line.contains(concat!("FIX", "ME")) {
            complaints.push(format!("{path}:{}: left for later", at + 1));
        }
    }
    complaints
}

fn machine(path: &str, text: &str) -> Vec<String> {
    // What this file plants is its own.
    if path == "tests/tidy.rs" {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for root in ["/home/", "/Users/", "/root/", "/work/", "/tmp/", "C:\\"] {
            let begins = |before: &str| {
                before.chars().next_back().is_none_or(|char| " \"'`(=".contains(char))
            };
            if line.match_indices(root).any(|(start, _)| begins(&line[..start])) {
                complaints.push(format!("{path}:{}: {root}", at + 1));
            }
        }
    }
    complaints
}

/// The first names of the paths that begin with `prefix`, also those in braces, with their lines.
fn named_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        // Not the `super::` of `super::super::`, nor the `crate::` of `$crate::`.
        if code[..start].ends_with([':', '$']) || code[..start].ends_with(char::is_alphanumeric) {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        let rest = &code[start + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(members(list).map(|name| (line, name))),
            None => found.push((line, first_name(rest))),
        }
    }
    found
}

/// The first names of the members of a list in braces, which `list` begins in.
fn members(list: &str) -> impl Iterator<Item = String> {
    let mut depth = 1;
    let mut names = Vec::new();
    let mut is_start = true;
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_start = true,
            char if is_start && !char.is_whitespace() => {
                names.push(first_name(&list[at..]));
                is_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.into_iter()
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// The code without comments and without its tests, which may name anything. Lines keep their
/// numbers.
fn code_of(path: &str, text: &str) -> String {
    let code = whole_code(text);
    let is_test = path.ends_with("/tests.rs") && !path.starts_with("src/shared/");
    if is_test || path.contains("/tests/") {
        return String::new();
    }
    // A module of tests in braces stands at the foot.
    let begins_tests = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
    let lines: Vec<&str> = code.lines().collect();
    let foot = lines.windows(2).position(|pair| {
        begins_tests(pair[0]) && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    lines[..foot.unwrap_or(lines.len())].join("\n")
}

/// The code without comments.
fn whole_code(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let cut = line.find("//").filter(|at| !line[..*at].ends_with(':'));
        cut.map_or(line, |at| &line[..at])
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_bites(rule: fn(&str, &str) -> Vec<String>, path: &str, text: &str) {
    assert!(!rule(path, text).is_empty(), "{path} gets away with {text:?}");
}

fn assert_passes(rule: fn(&str, &str) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(rule(path, text), Vec::<String>::new(), "{text:?}");
}

fn check(rule: fn(&str, &str) -> Vec<String>, files: &[Source]) {
    assert!(files.len() > 20, "the tree was not found");
    let complaints: Vec<String> = files.iter().flat_map(|(path, text)| rule(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Every Rust file of the crate.
fn sources() -> Vec<Source> {
    files_below("src", |path| path.extension().is_some_and(|it| it == "rs"))
}

/// Every text of the package but what git ignores.
fn tracked() -> Vec<Source> {
    let mut all = files_below(".", |_| true);
    for (path, _) in &mut all {
        *path = path.trim_start_matches("./").to_owned();
    }
    all
}

fn files_below(folder: &str, wanted: fn(&Path) -> bool) -> Vec<Source> {
    const IGNORED: [&str; 7] =
        ["target", ".git", "corpus", "artifacts", "coverage", "node_modules", ".venv"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !IGNORED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if wanted(&path)
                // What is no text is not looked at.
                && let Ok(text) = fs::read_to_string(&path)
            {
                let inside = path.strip_prefix(root).unwrap().to_string_lossy();
                files.push((inside.replace('\\', "/"), text));
            }
        }
    }
    files.sort();
    files
}
