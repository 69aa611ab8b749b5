//! What both implementations promise, and how a success looks.

use blixard_core::ports::nix::{LockedSource, NixProgress, NixStore as _, Selection};
use blixard_testkit::fake::nix::contract::{Prepared, nix_contract};
use serde_json::json;

use super::fixture::{Trial, listening, run, silent};

const ABSENT: &str = "/nix/store/00000000000000000000000000000000-absent";

#[tokio::test]
async fn the_real_nix_keeps_the_contract() {
    let Some(trial) = Trial::new() else { return };
    let prepared = Prepared {
        flake: trial.flake(r#"{ beta = runner "beta"; alpha = runner "alpha"; }"#),
        bare: trial.raw_flake("{ packages = { }; }"),
        absent: ABSENT.parse().unwrap(),
    };
    nix_contract(&trial.nix, &prepared).await.unwrap();
}

#[tokio::test]
async fn a_vm_comes_with_its_spec_and_its_warnings() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.flake(
        r#"{
          plain = runner "plain";
          web = builtins.warn "careful" (runner "web" // { blixard = { schema = 1; memory = 128; }; });
        }"#,
    );
    let (sink, heard) = listening();
    let vms = blixard_core::ports::nix::FlakeEvaluator::evaluate(&trial.nix, source, Selection::All, sink)
        .await
        .unwrap();
    let specs: Vec<_> = vms.iter().map(|vm| (vm.attribute.as_str(), vm.spec.clone())).collect();
    assert_eq!(specs, [("plain", json!(null)), ("web", json!({ "schema": 1, "memory": 128 }))]);
    let warning = NixProgress::Message { text: "evaluation warning: careful".to_owned() };
    assert_eq!(*heard.lock().unwrap(), [warning]);
}

#[tokio::test]
async fn the_facts_of_git_reach_the_flake_whatever_its_source_is_called() {
    let Some(trial) = Trial::new() else { return };
    let outputs = r#"{ microvms.web = runner "web" // {
      blixard = { inherit (self) rev revCount lastModified; };
    }; }"#;
    let source = LockedSource {
        rev: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        rev_count: Some(12),
        last_modified: Some(1_700_000_000),
        ..trial.source("so?ur=ce+x", "deploy/my flake", outputs)
    };
    let vms = trial.evaluate(&source, Selection::All).await.unwrap();
    let expected = json!({
        "rev": "0123456789abcdef0123456789abcdef01234567", "revCount": 12, "lastModified": 1_700_000_000,
    });
    assert_eq!(vms[0].spec, expected);
}

#[tokio::test]
async fn a_build_tells_what_it_does() {
    let Some(trial) = Trial::new() else { return };
    let vm = trial.one(r#"runner "web""#).await;
    let (sink, heard) = listening();
    trial.nix.build(vec![vm.drv.clone()], sink).await.unwrap();
    let heard = heard.lock().unwrap();
    let line =
        NixProgress::BuildLog { drv: "kernel-of-web".to_owned(), line: "making the kernel".to_owned() };
    assert!(heard.contains(&line), "{heard:?}");
    assert!(heard.contains(&NixProgress::BuildStarted { drv: vm.drv.to_string() }), "{heard:?}");
    assert!(heard.iter().any(|told| matches!(told, NixProgress::Builds { done: 2, .. })), "{heard:?}");
}

#[tokio::test]
async fn a_closure_is_what_nix_says_it_is() {
    let Some(trial) = Trial::new() else { return };
    let vm = trial.one(r#"runner "web""#).await;
    trial.nix.build(vec![vm.drv], silent()).await.unwrap();
    let manifest = trial.nix.closure(vm.out.clone()).await.unwrap();
    let mut expected: Vec<String> =
        run("nix-store", &["--query", "--requisites", vm.out.as_str()]).lines().map(str::to_owned).collect();
    expected.sort();
    let listed: Vec<&str> = manifest.records().iter().map(|record| record.path.as_str()).collect();
    assert_eq!(listed, expected);
    for record in manifest.records() {
        let hash = run("nix-store", &["--query", "--hash", record.path.as_str()]);
        assert_eq!(hash.parse(), Ok(record.nar_hash));
        assert_eq!(
            run("nix-store", &["--query", "--size", record.path.as_str()]),
            record.nar_size.to_string()
        );
    }
}

#[tokio::test]
async fn more_paths_than_fit_on_a_command_line_are_asked_for() {
    let Some(trial) = Trial::new() else { return };
    let absent: Vec<_> =
        (0..5000).map(|n| format!("/nix/store/{n:032}-{}", "x".repeat(100)).parse().unwrap()).collect();
    let missing = trial.nix.missing(absent.clone()).await.unwrap();
    assert_eq!(missing, absent);
}
