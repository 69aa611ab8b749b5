use blixard_core::ports::nix::{NixProgress, SourcePosition};

use super::{Interpreter, Line, clean, text};

/// What Nix printed in the recorded runs of one case, by version.
macro_rules! recorded {
    ($case:literal) => {
        [
            include_str!(concat!("recorded/2.26.3/", $case, ".log")),
            include_str!(concat!("recorded/2.34.8/", $case, ".log")),
        ]
    };
}

struct Said {
    progress: Vec<NixProgress>,
    interpreter: Interpreter,
}

fn read(lines: &str) -> Said {
    let mut interpreter = Interpreter::default();
    let progress = lines.lines().filter_map(|line| interpreter.line(Line::Whole(line.as_bytes()))).collect();
    Said { progress, interpreter }
}

/// Faults and positions, one a line.
fn faults(said: &Said) -> String {
    let mut lines = Vec::new();
    for fault in said.interpreter.faults() {
        lines.push(fault.message.clone());
        lines.extend(fault.drv.iter().map(|drv| format!("  of {drv}")));
        let at =
            |position: &SourcePosition| format!("  {}:{}:{}", position.file, position.line, position.column);
        lines.extend(fault.positions.iter().map(at));
    }
    lines.join("\n")
}

fn progress(said: &Said) -> String {
    let lines: Vec<String> = said.progress.iter().map(|told| format!("{told:?}")).collect();
    lines.join("\n")
}

/// Both versions must give the same.
fn same(cases: [&str; 2], show: impl Fn(&Said) -> String) -> String {
    let [older, newer] = cases.map(|lines| show(&read(lines)));
    assert_eq!(older, newer);
    newer
}

#[test]
fn a_throw_has_its_words_and_the_way_to_it() {
    insta::assert_snapshot!(same(recorded!("throw"), faults), @"
    memory must be positive
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/flake.nix:12:5
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/flake.nix:12:24
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/sub/bad.nix:1:1
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/sub/bad.nix:2:3
    ");
}

#[test]
fn a_missing_attribute_has_a_position_of_its_own() {
    insta::assert_snapshot!(same(recorded!("missing-attribute"), faults), @"
    attribute 'nonesuch' missing
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/flake.nix:15:5
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/flake.nix:15:24
      /nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source/flake.nix:15:24
    ");
}

#[test]
fn a_syntax_error_has_its_position() {
    insta::assert_snapshot!(same(recorded!("syntax-error"), faults), @"
    syntax error, unexpected ';'
      /nix/store/7m9py46ymnrd5s1cn2bhyg0008k4bpz1-source/flake.nix:1:42
      /nix/store/7m9py46ymnrd5s1cn2bhyg0008k4bpz1-source/flake.nix:1:42
    ");
}

#[test]
fn a_missing_output_is_an_error_without_position() {
    insta::assert_snapshot!(same(recorded!("no-output"), faults), @"flake 'path:/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source?narHash=sha256-JcVylkfjfT3hOFFcHEV27GpDYe3yqaH57CxXhDw9FXo%3D' does not provide attribute 'nonesuch'");
}

#[test]
fn warnings_and_traces_are_progress_and_no_errors() {
    insta::assert_snapshot!(same(recorded!("warnings"), progress), @r#"
    Message { text: "trace: tracing here" }
    Message { text: "evaluation warning: a warning" }
    "#);
    assert_eq!(same(recorded!("warnings"), faults), "");
}

#[test]
fn a_build_tells_how_far_it_is() {
    let [older, newer] = recorded!("build");
    insta::assert_snapshot!(progress(&read(older)), @r#"
    Builds { done: 0, expected: 1 }
    Builds { done: 0, expected: 2 }
    Builds { done: 0, expected: 3 }
    Builds { done: 0, expected: 2 }
    BuildStarted { drv: "/nix/store/yy0n5rs7nnb416y76xz21k6miz5yara2-plain.drv" }
    BuildLog { drv: "plain", line: "line one" }
    Builds { done: 1, expected: 2 }
    BuildStarted { drv: "/nix/store/6fvigk1lfrkq0yn3v9063brlvscc31k6-web.drv" }
    BuildLog { drv: "web", line: "line one" }
    Builds { done: 2, expected: 2 }
    "#);
    insta::assert_snapshot!(progress(&read(newer)), @r#"
    Builds { done: 0, expected: 0 }
    Builds { done: 0, expected: 1 }
    Builds { done: 0, expected: 2 }
    Builds { done: 0, expected: 3 }
    Builds { done: 0, expected: 2 }
    BuildStarted { drv: "/nix/store/yy0n5rs7nnb416y76xz21k6miz5yara2-plain.drv" }
    BuildLog { drv: "plain", line: "line one" }
    Builds { done: 1, expected: 3 }
    BuildStarted { drv: "/nix/store/6fvigk1lfrkq0yn3v9063brlvscc31k6-web.drv" }
    Builds { done: 1, expected: 2 }
    BuildLog { drv: "web", line: "line one" }
    Builds { done: 2, expected: 3 }
    "#);
}

#[test]
fn a_failed_build_is_named_by_its_derivation_before_those_that_need_it() {
    let [older, newer] = recorded!("build-failed");
    insta::assert_snapshot!(faults(&read(older)), @"
    builder for '/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv' failed with exit code 3
      of /nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv
    1 dependencies of derivation '/nix/store/bdijjkqjcxwvd9c4lvxlpqjq36xgjv40-needsfails.drv' failed to build
      of /nix/store/bdijjkqjcxwvd9c4lvxlpqjq36xgjv40-needsfails.drv
    ");
    insta::assert_snapshot!(faults(&read(newer)), @"
    Cannot build '/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv'.
    Reason: builder failed with exit code 3.
    Output paths:
      /nix/store/i5cf89fg9kcjz0r6y53z8473nd6daybq-fails
      of /nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv
    Cannot build '/nix/store/bdijjkqjcxwvd9c4lvxlpqjq36xgjv40-needsfails.drv'.
    Reason: 1 dependency failed.
    Output paths:
      /nix/store/sjbbk6r234blxalgkf30mmpxyfdr88ml-needsfails
      of /nix/store/bdijjkqjcxwvd9c4lvxlpqjq36xgjv40-needsfails.drv
    ");
}

#[test]
fn the_end_of_a_failed_builds_log_is_kept_though_it_has_stopped() {
    for lines in recorded!("build-failed") {
        let said = read(lines);
        let drv = said.interpreter.faults()[0].drv.clone().unwrap();
        let tail = said.interpreter.log_tail(&drv);
        assert_eq!(tail.len(), 25);
        assert_eq!(tail.first().map(String::as_str), Some("line 15"));
        assert_eq!(tail.last().map(String::as_str), Some("line 39"));
    }
}

#[test]
fn logs_of_builds_that_succeeded_are_forgotten_and_a_failed_one_is_not() {
    let mut interpreter = Interpreter::default();
    let mut say = |json: String| {
        interpreter.line(Line::Whole(format!("@nix {json}").as_bytes()));
    };
    let drv = |n: usize| format!("/nix/store/{n:032}-b.drv");
    for n in 0..1000 {
        say(format!(r#"{{"action":"start","id":{n},"type":105,"fields":["{}"]}}"#, drv(n)));
        say(format!(r#"{{"action":"result","id":{n},"type":101,"fields":["log"]}}"#));
        if n == 3 {
            say(format!(
                r#"{{"action":"msg","level":0,"msg":"","raw_msg":"builder for '{}' failed"}}"#,
                drv(n)
            ));
        }
        say(format!(r#"{{"action":"stop","id":{n}}}"#));
    }
    let tail = |n: usize| interpreter.log_tail(&drv(n).parse().unwrap());
    assert_eq!(tail(3), ["log"]);
    assert!(tail(4).is_empty());
    assert_eq!(tail(999), ["log"]);
}

#[test]
fn lines_that_make_no_sense_do_no_harm() {
    let said = read(concat!(
        "@nix \n@nix {\n@nix 5\n@nix {\"action\":\"start\"}\n@nix {\"action\":\"dance\",\"id\":1}\n",
        "@nix {\"action\":\"start\",\"id\":1,\"type\":104}\n",
        "@nix {\"action\":\"result\",\"id\":1,\"type\":105,\"fields\":[\"many\"]}\n",
        "@nix {\"action\":\"result\",\"id\":9,\"type\":105,\"fields\":[1,2]}\n",
        "@nix {\"action\":\"start\",\"id\":2,\"type\":105,\"fields\":[7]}\n",
        "@nix {\"action\":\"stop\",\"id\":77}\n",
        "@nix {\"action\":\"result\",\"id\":5,\"type\":101,\"fields\":[\"of an unknown build\"]}\n",
        "error: \u{1b}[31mthe disk is full\u{1b}[0m\n\n",
    ));
    insta::assert_snapshot!(progress(&said), @r#"BuildLog { drv: "", line: "of an unknown build" }"#);
    assert!(said.interpreter.faults().is_empty());
    assert_eq!(said.interpreter.last_words(), "error: the disk is full");
}

#[test]
fn the_last_of_many_plain_lines_are_the_last_words() {
    let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    let words = read(&lines.join("\n")).interpreter.last_words();
    assert!(words.starts_with("line 75\n") && words.ends_with("\nline 99"), "{words}");
}

#[test]
fn nothing_in_a_text_controls_a_terminal() {
    assert_eq!(clean("\u{1b}[31;1merror:\u{1b}[0m a\tb\nc"), "error: a\tb\nc");
    assert_eq!(clean("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\c"), "abc");
    assert_eq!(clean("a\rb\u{8}\u{9b}31mc\u{1b}"), "ab31mc");
    assert_eq!(clean("cut \u{1b}[31"), "cut ");
    assert_eq!(clean("ä\u{1b}cö"), "äö");
}

#[test]
fn a_text_over_the_bound_is_cut_between_characters() {
    let cut = clean(&"ä".repeat(100_000));
    assert_eq!(cut.len(), 64 * 1024);
    assert!(cut.chars().all(|character| character == 'ä'));
}

#[test]
fn derivations_are_found_in_prose_and_outputs_are_not() {
    let drv = "/nix/store/bc3w768mm73xr0lpwb2846wnsk7l0h2p-fails.drv";
    let out = "/nix/store/i5cf89fg9kcjz0r6y53z8473nd6daybq-fails";
    for words in [
        format!("builder for '{drv}' failed"),
        format!("{out} and then {drv}"),
        format!("cannot build '{drv}^out'"),
        drv.to_owned(),
    ] {
        let found = text::first_derivation(&words).unwrap();
        assert_eq!(found.as_str(), drv, "{words}");
    }
    for words in ["", "/nix/store", "/nix/store/", "/nix/store/x.drv", out] {
        assert_eq!(text::first_derivation(words), None, "{words}");
    }
}
