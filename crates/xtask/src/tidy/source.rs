//! The rules of source files: headers, lengths, what tests may not do, and what the pure crates may not name.

use std::path::Path;

use super::{Finding, Text};

/// The ceiling of a file, tests included in their own files.
const LINES_MAX: usize = 500;

/// Checks one source file.
pub(super) fn check(text: &Text) -> Vec<Finding> {
    let once = [header(text), length(text)].into_iter().flatten();
    once.chain(idle_tests(text)).chain(chance(text)).collect()
}

fn finding(text: &Text, rule: &'static str, reason: String) -> Finding {
    Finding { file: text.path.clone(), rule, reason }
}

fn has_extension(text: &Text, wanted: &str) -> bool {
    Path::new(&text.path).extension().is_some_and(|extension| extension == wanted)
}

fn is_rust(text: &Text) -> bool {
    has_extension(text, "rs")
}

/// A module of a crate: not a test, a bench, an example or a build script.
fn is_module(text: &Text) -> bool {
    let mut parts = text.path.split('/');
    is_rust(text) && parts.next() == Some("crates") && parts.nth(1) == Some("src") && !is_tests_file(text)
}

fn is_tests_file(text: &Text) -> bool {
    text.path.ends_with("/tests.rs") || text.path.contains("/tests/")
}

fn header(text: &Text) -> Option<Finding> {
    (is_module(text) && !text.content.starts_with("//! ")).then(|| {
        let reason = "it does not open with `//! …`: say what the module owns and what it refuses to know";
        finding(text, "header", reason.to_owned())
    })
}

fn length(text: &Text) -> Option<Finding> {
    let lines = text.content.lines().count();
    let source = is_rust(text) || has_extension(text, "nix");
    (source && lines > LINES_MAX).then(|| {
        let reason =
            format!("{lines} lines, {LINES_MAX} is the ceiling: it does more than one thing, split it");
        finding(text, "length", reason)
    })
}

/// Tests that wait or do not run at all. Looks at the test files, and at `mod tests` in the others.
fn idle_tests(text: &Text) -> Vec<Finding> {
    if !is_rust(text) {
        return Vec::new();
    }
    let begin = if is_tests_file(text) {
        Some(0)
    } else {
        text.content.lines().position(|line| line.trim_start().starts_with("mod tests {"))
    };
    let lines = text.content.lines().enumerate().skip(begin.unwrap_or(usize::MAX));
    lines
        .filter_map(|(index, line)| idle(line).map(|(rule, reason)| (index + 1, rule, reason)))
        .map(|(line, rule, reason)| finding(text, rule, format!("line {line}: {reason}")))
        .collect()
}

/// What gives one replica another answer than the next, with the reason.
const CHANCE: [(&str, &str); 7] = [
    ("HashMap", "its order differs from process to process: use BTreeMap"),
    ("HashSet", "its order differs from process to process: use BTreeSet"),
    ("RandomState", "it is seeded anew in each process"),
    ("DefaultHasher", "its result may differ between versions of Rust"),
    ("SystemTime", "time comes in the command or through `Clock`"),
    ("Instant", "time comes in the command or through `Clock`"),
    ("std::env", "the environment is another on each machine"),
];

/// Names in the crates that `apply` is made of which would let replicas diverge. Their dependencies are the
/// business of [`super::layers`].
fn chance(text: &Text) -> Vec<Finding> {
    let pure = ["crates/blixard-types/src/", "crates/blixard-core/src/"];
    if !is_module(text) || !pure.iter().any(|folder| text.path.starts_with(folder)) {
        return Vec::new();
    }
    let named = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        words.find_map(|word| {
            CHANCE.iter().find(|(name, _)| {
                word == *name || word.starts_with(&format!("{name}:")) || word.ends_with(&format!(":{name}"))
            })
        })
    };
    let lines = text.content.lines().enumerate();
    let lines = lines.filter_map(|(index, line)| named(line).map(|found| (index + 1, found)));
    lines
        .map(|(line, (name, reason))| finding(text, "chance", format!("line {line}: {name}: {reason}")))
        .collect()
}

fn idle(line: &str) -> Option<(&'static str, &'static str)> {
    let code = line.trim_start();
    if code.starts_with("//") {
        return None;
    }
    if code.starts_with("#[ignore") {
        return Some(("ignored", "a test that is not run proves nothing: mend it or remove it"));
    }
    // Put together here, so that this line does not find itself.
    let sleeps = ["thread", "time"].map(|module| format!("{module}::sleep("));
    sleeps
        .iter()
        .any(|sleep| code.contains(sleep.as_str()))
        .then_some(("sleep", "a test that sleeps is slow or fails by chance: pause the time, or inject it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, content: &str) -> Vec<&'static str> {
        let text = Text { path: path.to_owned(), content: content.to_owned() };
        check(&text).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_module_opens_with_its_header() {
        for path in ["crates/a/src/lib.rs", "crates/a/src/main.rs", "crates/a/src/b/c.rs"] {
            assert_eq!(rules(path, "use std;\n"), ["header"], "{path}");
            assert!(rules(path, "//! Owns it.\n").is_empty(), "{path}");
        }
    }

    #[test]
    fn tests_and_build_scripts_need_no_header() {
        for path in
            ["crates/a/src/b/tests.rs", "crates/a/src/tests/b.rs", "crates/a/tests/b.rs", "crates/a/build.rs"]
        {
            assert!(rules(path, "use std;\n").is_empty(), "{path}");
        }
    }

    #[test]
    fn a_file_has_a_ceiling() {
        let lines = |count: usize| "\n".repeat(count);
        assert!(rules("flake.nix", &lines(500)).is_empty());
        assert_eq!(rules("flake.nix", &lines(501)), ["length"]);
        assert_eq!(rules("crates/a/tests/b.rs", &lines(501)), ["length"]);
        assert!(rules("crates/a/Cargo.toml", &lines(501)).is_empty());
    }

    #[test]
    fn a_test_neither_sleeps_nor_is_ignored() {
        let sleep = format!("    tokio::time{}(limit).await;\n", "::sleep");
        let ignore = format!("    #[{}]\n", "ignore");
        assert_eq!(rules("crates/a/src/b/tests.rs", &sleep), ["sleep"]);
        assert_eq!(rules("crates/a/tests/b.rs", &ignore), ["ignored"]);
        let inline = format!("//! Owns it.\nmod tests {{\n{ignore}{sleep}}}\n");
        assert_eq!(rules("crates/a/src/b.rs", &inline), ["ignored", "sleep"]);
    }

    #[test]
    fn what_is_replicated_has_no_order_or_time_of_its_own() {
        for line in
            ["use std::collections::HashMap;", "a: HashSet<u8>,", "Instant::now();", "std::env::var(name);"]
        {
            let content = format!("//! Owns it.\n{line}\n");
            assert_eq!(rules("crates/blixard-core/src/a.rs", &content), ["chance"], "{line}");
            assert!(rules("crates/blixard-raft/src/a.rs", &content).is_empty(), "{line}");
            assert!(rules("crates/blixard-core/src/a/tests.rs", &content).is_empty(), "{line}");
        }
        assert!(
            rules("crates/blixard-core/src/a.rs", "//! No HashMap.\n// An Instant.\nstruct Instants;\n")
                .is_empty()
        );
    }

    #[test]
    fn code_may_sleep_where_no_test_does() {
        let sleep = format!("//! Owns it.\nfn f() {{ std::thread{}(limit) }}\n", "::sleep");
        assert!(rules("crates/a/src/b.rs", &sleep).is_empty());
    }
}
