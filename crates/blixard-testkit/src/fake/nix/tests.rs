use std::collections::BTreeSet;
use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::nix::{BuildError, EvaluateError, FlakeEvaluator, NixStore, RootName, Selection};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::contract::{Prepared, nix_contract};
use super::inbox_contract::source_inbox_contract;
use super::{FAKE_UPLOAD_MAX, FakeFlake, FakeNix, FakeVm, fake_store_path};

/// The fake never waits.
fn now<T>(future: BoxFuture<'_, T>) -> T {
    future.now_or_never().unwrap()
}

fn two_vms() -> FakeFlake {
    FakeFlake::Vms(vec![FakeVm::new("beta", Value::Null), FakeVm::new("alpha", json!({ "schema": 1 }))])
}

#[test]
fn the_fake_keeps_the_contract() {
    let nix = FakeNix::new();
    let prepared = Prepared {
        flake: nix.add_flake("flake", two_vms()),
        bare: nix.add_flake("bare", FakeFlake::NoMicrovms),
        absent: fake_store_path("absent"),
    };
    nix_contract(&nix, &prepared).now_or_never().unwrap().unwrap();
}

#[test]
fn the_fake_keeps_the_contract_of_an_inbox() {
    let nix = FakeNix::new();
    let kept = source_inbox_contract(&nix, "the fake", FAKE_UPLOAD_MAX);
    kept.now_or_never().unwrap().unwrap();
}

#[test]
fn what_a_root_needs_outlives_a_collection() {
    let nix = FakeNix::new();
    let [kept, needed, dropped] = ["kept", "needed", "dropped"].map(fake_store_path);
    nix.add_path(&needed, &[], &[]);
    nix.add_path(&kept, std::slice::from_ref(&needed), &["bin/microvm-run"]);
    nix.add_path(&dropped, &[], &[]);
    now(nix.add_root(RootName("web/1".to_owned()), kept.clone())).unwrap();
    assert_eq!(nix.collect_garbage(), BTreeSet::from([dropped.clone()]));
    let missing = now(nix.missing(vec![kept, needed, dropped.clone()])).unwrap();
    assert_eq!(missing, [dropped]);
}

#[test]
fn a_build_that_is_to_fail_fails_and_the_others_are_built() {
    let nix = FakeNix::new();
    let source = nix.add_flake("flake", two_vms());
    let silent: blixard_core::ports::nix::ProgressSink = Arc::new(|_| ());
    let vms = now(nix.evaluate(source, Selection::All, silent.clone())).unwrap();
    let [alpha, beta] = vms.as_slice() else { panic!("{vms:?}") };
    nix.fail_build(&alpha.drv, "no space left", &["last words"]);
    let error = now(nix.build(vec![alpha.drv.clone(), beta.drv.clone()], silent)).unwrap_err();
    assert!(
        matches!(&error, BuildError::Failed { drv, log_tail, .. } if *drv == alpha.drv.to_string() && log_tail == &["last words"]),
        "{error:?}"
    );
    let missing = now(nix.missing(vec![alpha.out.clone(), beta.out.clone()])).unwrap();
    assert_eq!(missing, std::slice::from_ref(&alpha.out));
    assert_eq!(nix.builds(), [alpha.drv.clone(), beta.drv.clone()]);
}

#[test]
fn a_flake_that_is_to_fail_fails_each_time() {
    let nix = FakeNix::new();
    let flake = FakeFlake::Fails { message: "syntax error".to_owned(), position: None };
    let source = nix.add_flake("flake", flake);
    for _ in 0..2 {
        let error = now(nix.evaluate(source.clone(), Selection::All, Arc::new(|_| ()))).unwrap_err();
        assert!(matches!(error, EvaluateError::Failed { .. }), "{error:?}");
    }
    assert_eq!(nix.evaluations(), 2);
}
