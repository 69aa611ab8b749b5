//! What every implementation of the Nix ports promises, as checks that the fake and the real one pass.
//!
//! Owns: the promises. Refuses to know: which implementation it is.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use blixard_core::ports::nix::{
    BuildError, ClosureError, EvaluateError, FlakeEvaluator, LockedSource, NixProgress, NixStore,
    ProgramError, ProgressSink, RootName, Selection, Sharing,
};
use blixard_types::StorePath;

/// What the implementation was prepared with.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// A flake with two vms, `alpha` and `beta`, that can be built; each runner needs another path and
    /// has a file `bin/microvm-run`.
    pub flake: LockedSource,
    /// A flake without `microvms`.
    pub bare: LockedSource,
    /// A path that the store does not have.
    pub absent: StorePath,
}

/// Checks all promises. The store's folder of roots must be empty.
pub async fn nix_contract<T: FlakeEvaluator + NixStore>(nix: &T, prepared: &Prepared) -> Result<()> {
    flake_evaluator_contract(nix, prepared).await.context("evaluation")?;
    let [alpha, beta] = build_both(nix, prepared).await.context("build")?;
    nix_store_contract(nix, [&alpha, &beta], &prepared.absent).await
}

/// Checks what an evaluator promises.
pub async fn flake_evaluator_contract(evaluator: &dyn FlakeEvaluator, prepared: &Prepared) -> Result<()> {
    let evaluate = |source: &LockedSource, selection| evaluator.evaluate(source.clone(), selection, silent());
    let named = |names: &[&str]| Selection::Named(names.iter().map(|name| (*name).to_owned()).collect());

    let all = evaluate(&prepared.flake, Selection::All).await?;
    let names: Vec<&str> = all.iter().map(|vm| vm.attribute.as_str()).collect();
    ensure!(names == ["alpha", "beta"], "all vms, sorted: {names:?}");
    for vm in &all {
        ensure!(vm.drv.is_derivation() && !vm.out.is_derivation(), "{vm:?}");
        ensure!(vm.system.ends_with("-linux"), "{vm:?}");
    }
    let again = evaluate(&prepared.flake, named(&["beta", "alpha", "beta"])).await?;
    ensure!(again == all, "named vms, each once and sorted: {again:?}");
    let one = evaluate(&prepared.flake, named(&["beta"])).await?;
    ensure!(one == all.get(1..).unwrap_or_default(), "one vm: {one:?}");
    ensure!(evaluate(&prepared.flake, named(&[])).await?.is_empty());

    let unknown = evaluate(&prepared.flake, named(&["alpha", "gamma"])).await;
    ensure!(
        matches!(&unknown, Err(EvaluateError::NoSuchVm { attribute, .. }) if attribute == "gamma"),
        "an unknown vm: {unknown:?}"
    );
    let bare = evaluate(&prepared.bare, Selection::All).await;
    ensure!(matches!(bare, Err(EvaluateError::NoMicrovms)), "no output: {bare:?}");
    Ok(())
}

/// Builds the prepared vms; gives their runners.
async fn build_both<T: FlakeEvaluator + NixStore>(nix: &T, prepared: &Prepared) -> Result<[StorePath; 2]> {
    let vms = nix.evaluate(prepared.flake.clone(), Selection::All, silent()).await?;
    let (drvs, outs): (Vec<_>, Vec<_>) = vms.into_iter().map(|vm| (vm.drv, vm.out)).unzip();
    ensure!(nix.missing(drvs.clone()).await?.is_empty(), "derivations are in the store");
    nix.build(drvs.clone(), silent()).await?;
    ensure!(nix.missing(outs.clone()).await?.is_empty(), "runners are in the store");
    nix.build(drvs, silent()).await.context("again")?;
    nix.build(Vec::new(), silent()).await.context("of nothing")?;
    let unknown: StorePath = format!("{}.drv", prepared.absent).parse()?;
    let failed = nix.build(vec![unknown.clone()], silent()).await;
    ensure!(
        matches!(&failed, Err(BuildError::Failed { drv, .. }) if *drv == unknown.to_string()),
        "an unknown derivation: {failed:?}"
    );
    <[StorePath; 2]>::try_from(outs).map_err(|outs| anyhow::anyhow!("two runners: {outs:?}"))
}

/// Checks what a store promises. It has the runners `known`, each with `bin/microvm-run` and another
/// path that it needs, and does not have `absent`; its folder of roots is empty.
pub async fn nix_store_contract(
    store: &dyn NixStore,
    known: [&StorePath; 2],
    absent: &StorePath,
) -> Result<()> {
    validity(store, known, absent).await.context("validity")?;
    closures(store, known, absent).await.context("closures")?;
    files(store, known, absent).await.context("files")?;
    roots(store, known, absent).await.context("roots")?;
    many_roots(store, known, absent).await.context("many roots")?;
    shared_roots(store, known).await.context("shared roots")
}

async fn validity(store: &dyn NixStore, [one, two]: [&StorePath; 2], absent: &StorePath) -> Result<()> {
    ensure!(store.missing(Vec::new()).await?.is_empty());
    let asked = vec![two.clone(), absent.clone(), one.clone(), absent.clone()];
    let missing = store.missing(asked).await?;
    ensure!(missing == [absent.clone(), absent.clone()], "in the order asked: {missing:?}");
    ensure!(store.nar_hash(absent.clone()).await?.is_none());
    ensure!(store.nar_hash(one.clone()).await?.is_some());
    Ok(())
}

async fn closures(store: &dyn NixStore, known: [&StorePath; 2], absent: &StorePath) -> Result<()> {
    for root in known {
        let manifest = store.closure(root.clone()).await?;
        let reference = manifest.closure_ref()?;
        ensure!(reference.root == *root && reference.path_count >= 2, "{reference:?}");
        ensure!(store.nar_hash(root.clone()).await? == Some(reference.nar_hash));
        let again = store.closure(root.clone()).await?.closure_ref()?;
        ensure!(again == reference, "the same closure twice");
        let paths = manifest.records().iter().map(|record| record.path.clone()).collect();
        ensure!(store.missing(paths).await?.is_empty(), "a closure is complete");
    }
    let [one, two] = known;
    let together = store.closures(vec![two.clone(), one.clone(), two.clone()]).await?;
    let apart = [store.closure(two.clone()).await?, store.closure(one.clone()).await?];
    ensure!(together.iter().eq(apart.iter().chain(apart.first())), "together as apart, in order");
    ensure!(store.closures(Vec::new()).await?.is_empty());
    let one_unknown = store.closures(vec![one.clone(), absent.clone()]).await;
    ensure!(
        matches!(&one_unknown, Err(ClosureError::NotValid { path }) if path == absent),
        "an unknown path among known ones: {one_unknown:?}"
    );
    let unknown = store.closure(absent.clone()).await;
    ensure!(
        matches!(&unknown, Err(ClosureError::NotValid { path }) if path == absent),
        "an unknown path: {unknown:?}"
    );
    Ok(())
}

async fn files(store: &dyn NixStore, [one, _]: [&StorePath; 2], absent: &StorePath) -> Result<()> {
    ensure!(store.check_program(one.clone(), "bin/microvm-run").await.is_ok());
    for below in ["bin/absent", "bin", "", ".", "../", "/etc/passwd", "bin/../bin/microvm-run"] {
        ensure!(store.check_program(one.clone(), below).await.is_err(), "{below:?}");
    }
    ensure!(store.check_program(absent.clone(), "bin/microvm-run").await == Err(ProgramError::Missing));
    Ok(())
}

async fn roots(store: &dyn NixStore, [one, two]: [&StorePath; 2], absent: &StorePath) -> Result<()> {
    let name = |text: &str| RootName(text.to_owned());
    ensure!(store.roots().await?.is_empty(), "none at first");
    store.remove_root(name("acme/web/1")).await.context("one that is not there")?;

    store.add_root(name("acme/web/2"), two.clone()).await?;
    store.add_root(name("acme/web/1"), two.clone()).await?;
    store.add_root(name("acme/web/1"), one.clone()).await.context("elsewhere")?;
    let expected = [(name("acme/web/1"), one.clone()), (name("acme/web/2"), two.clone())];
    let listed = store.roots().await?;
    ensure!(listed == expected, "sorted, the newest target: {listed:?}");

    for (text, path) in [("acme/web/3", absent), ("acme/web", one), ("acme/web/1/deep", one)] {
        let refused = store.add_root(name(text), path.clone()).await;
        ensure!(refused.is_err(), "{text} -> {path} was accepted");
    }
    for text in ["", "..", "../x", "a/../b", "/a", "a/", "a//b", ".a", "A b"] {
        ensure!(store.add_root(name(text), one.clone()).await.is_err(), "{text:?} was accepted");
        ensure!(store.remove_root(name(text)).await.is_err(), "{text:?} was accepted");
    }
    store.remove_root(name("acme/web")).await.context("a folder of roots")?;
    ensure!(store.roots().await? == expected, "refused changes change nothing");

    store.remove_root(name("acme/web/1")).await?;
    ensure!(store.roots().await? == expected.get(1..).unwrap_or_default());
    store.remove_root(name("acme/web/2")).await?;
    store.remove_root(name("acme/web/2")).await.context("again")?;
    ensure!(store.roots().await?.is_empty(), "none at last");
    Ok(())
}

async fn many_roots(store: &dyn NixStore, [one, two]: [&StorePath; 2], absent: &StorePath) -> Result<()> {
    let name = |text: &str| RootName(text.to_owned());
    let both = [(name("acme/a"), one.clone()), (name("acme/b/c"), two.clone())];
    store.add_roots(both.to_vec()).await?;
    store.add_roots(Vec::new()).await.context("none")?;
    ensure!(store.roots().await? == both, "all are there");
    let refused = store.add_roots(vec![(name("x"), one.clone()), (name("y"), absent.clone())]).await;
    ensure!(
        matches!(&refused, Err(error) if error.root.ends_with('y')),
        "a path that is not there, by its root: {refused:?}"
    );
    for text in ["acme/a", "acme/b/c", "x"] {
        store.remove_root(name(text)).await?;
    }
    ensure!(store.roots().await?.is_empty());
    Ok(())
}

async fn shared_roots(store: &dyn NixStore, [one, two]: [&StorePath; 2]) -> Result<()> {
    let name = |text: &str| RootName(text.to_owned());
    let share = |path: &StorePath, holder: &str| store.share_root(name("guest"), path.clone(), name(holder));
    store.add_root(name("holder/1"), one.clone()).await?;
    let before = store.roots().await?;
    for (path, holder) in
        [(one, "holder"), (one, "holder/2"), (one, "other/1"), (two, "holder/1"), (one, "guest")]
    {
        ensure!(share(path, holder).await? == Sharing::NotHeld, "{holder} does not hold {path}");
    }
    ensure!(share(one, "../holder").await.is_err(), "a name that is none");
    ensure!(store.roots().await? == before, "what is not held is not rooted");
    ensure!(share(one, "holder/1").await? == Sharing::Shared);
    store.remove_root(name("holder/1")).await?;
    ensure!(store.roots().await? == [(name("guest"), one.clone())], "it stays when the holder goes");
    ensure!(share(one, "guest").await? == Sharing::Shared, "it holds itself");
    ensure!(share(two, "guest").await? == Sharing::NotHeld, "it holds something else");
    ensure!(store.roots().await? == [(name("guest"), one.clone())], "and is as it was");
    store.remove_root(name("guest")).await?;
    Ok(())
}

fn silent() -> ProgressSink {
    Arc::new(|_: NixProgress| ())
}
