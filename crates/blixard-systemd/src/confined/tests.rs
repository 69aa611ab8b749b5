use std::collections::BTreeMap;

use blixard_core::ports::confined::{Limits, Network};

use super::*;

fn program() -> ConfinedProgram {
    ConfinedProgram {
        purpose: "evaluate",
        argv: vec!["/usr/bin/nix".to_owned(), "a $b %c".to_owned()],
        environment: BTreeMap::from([("HOME".to_owned(), "/tmp/home".to_owned())]),
        groups: vec![991],
        network: Network::None,
        limits: Limits {
            time_ms: 60_000,
            memory_max: 512 << 20,
            tasks_max: 64,
            stdout_max: 1000,
            stderr_max: 1000,
        },
    }
}

fn told(result: &str, status: i32) -> String {
    match (Outcome { result: result.to_owned(), status }).end(&program()) {
        Ok(end) => format!("{end:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_result_of_systemd_is_an_end_or_says_which_limit_was_reached() {
    assert_eq!(told("success", 0), "Exited(0)");
    assert_eq!(told("exit-code", 1), "Exited(1)");
    assert_eq!(told("signal", 6), "Killed(6)");
    assert_eq!(told("core-dump", 11), "Killed(11)");
    assert_eq!(told("timeout", 9), "it took longer than 60 s");
    assert_eq!(told("oom-kill", 9), "it needed more than 512 MiB of memory");
    assert_eq!(told("exit-code", 203), "/usr/bin/nix cannot be executed");
    assert_eq!(
        told("exit-code", 226),
        "systemd could not prepare /usr/bin/nix: exit status 226, see systemd.exec(5)"
    );
    assert_eq!(told("resources", 0), "its unit ended with `resources`");
}

fn written(program: &ConfinedProgram, options: &ConfinementOptions) -> String {
    let (_streams, ends) = streams::pipes().unwrap();
    let settings = properties::properties(program, options, ends);
    let lines: Vec<String> = settings
        .iter()
        .filter(|(name, _)| !name.ends_with("FileDescriptor"))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_confined_program_is_written_as_these_properties() {
    let options = ConfinementOptions { user: None, hidden: vec!["/var/lib/blixard".into()] };
    insta::assert_snapshot!(written(&program(), &options));
}

#[tokio::test]
async fn a_program_with_a_network_may_use_it_and_a_named_user_is_taken() {
    let options = ConfinementOptions { user: Some("evaluator".to_owned()), hidden: Vec::new() };
    let all = written(&ConfinedProgram { network: Network::Host, ..program() }, &options);
    assert!(!all.contains("PrivateNetwork"), "{all}");
    assert!(all.contains("AF_INET6"), "{all}");
    assert!(all.contains("User = \"evaluator\""), "{all}");
    assert!(!all.contains("DynamicUser"), "{all}");
}
