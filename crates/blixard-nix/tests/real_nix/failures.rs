//! What is told when a flake or a build is broken.

use blixard_core::ports::nix::{BuildError, EvaluateError, LockedSource, NixStore as _, Selection};

use super::fixture::{Trial, silent};

/// Message and position of a failed evaluation.
async fn failure(trial: &Trial, source: &LockedSource, selection: Selection) -> String {
    match trial.evaluate(source, selection).await {
        Err(EvaluateError::Failed { message, position: Some(at) }) => {
            format!("{message}\nat {}:{}", at.file, at.line)
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_vm_that_fails_is_told_of_with_its_own_reason() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.flake(
        r#"{
          a-fine = runner "fine";
          b-throws = import ./sub/bad.nix make;
          c-missing = self.nonesuch;
          d-none = 5;
          e-aborts = abort "given up";
        }"#,
    );
    insta::assert_snapshot!(failure(&trial, &source, Selection::All).await, @"
    microvms.b-throws: memory must be positive
    microvms.c-missing: attribute 'nonesuch' missing
    microvms.d-none: expected a set but found an integer: 5
    microvms.e-aborts: evaluation aborted with the following error message: 'given up'
    at sub/bad.nix:2
    ");
    let named = Selection::Named(vec!["e-aborts".to_owned(), "a-fine".to_owned()]);
    insta::assert_snapshot!(failure(&trial, &source, named).await, @"
    microvms.e-aborts: evaluation aborted with the following error message: 'given up'
    at flake.nix:19
    ");
    let fine = Selection::Named(vec!["a-fine".to_owned()]);
    assert_eq!(trial.evaluate(&source, fine).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_flake_that_cannot_be_read_is_told_of_without_a_vm() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.raw_flake("{ microvms = { a = ; }; }");
    insta::assert_snapshot!(failure(&trial, &source, Selection::All).await, @"
    syntax error, unexpected ';'
    at flake.nix:14
    ");
    let source = trial.raw_flake("{ microvms = throw \"not today\"; }");
    insta::assert_snapshot!(failure(&trial, &source, Selection::All).await, @"
    not today
    at flake.nix:14
    ");
}

#[tokio::test]
async fn a_source_with_another_hash_is_refused() {
    let Some(trial) = Trial::new() else { return };
    let other = trial.flake("{ }");
    let source = LockedSource { nar_hash: other.nar_hash, ..trial.flake(r#"{ web = runner "web"; }"#) };
    let error = trial.evaluate(&source, Selection::All).await.unwrap_err();
    assert!(error.to_string().contains("hash mismatch"), "{error}");
}

#[tokio::test]
async fn a_failed_build_is_told_of_with_the_end_of_its_log_and_the_rest_is_built() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.flake(
        r#"rec {
          a-needs = make "needs" "cat ${b-fails}; echo > $out";
          b-fails = make "fails" "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done; exit 3";
          c-fine = runner "fine";
        }"#,
    );
    let vms = trial.evaluate(&source, Selection::All).await.unwrap();
    let drvs = vms.iter().map(|vm| vm.drv.clone()).collect();
    let Err(BuildError::Failed { drv, message, log_tail }) = trial.nix.build(drvs, silent()).await else {
        panic!("it must fail");
    };
    assert_eq!(drv, vms[1].drv.to_string());
    assert!(message.contains("failed with exit code 3"), "{message}");
    assert_eq!(log_tail.len(), 25);
    assert_eq!(log_tail.last().map(String::as_str), Some("line 39"));
    let outs = vms.iter().map(|vm| vm.out.clone()).collect();
    assert_eq!(trial.nix.missing(outs).await.unwrap(), [vms[0].out.clone(), vms[1].out.clone()]);
}
