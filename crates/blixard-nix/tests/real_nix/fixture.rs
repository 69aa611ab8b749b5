//! Flakes without inputs, written to a temporary folder and put into the store.

use std::process::Command;
use std::sync::{Arc, Mutex};

use blixard_core::ports::confined::Confinement;
use blixard_core::ports::nix::{
    EvaluateError, EvaluatedVm, FlakeEvaluator as _, LockedSource, NixProgress, ProgressSink, Selection,
};
use blixard_nix::{NixCli, NixCliOptions};
use blixard_testkit::fake::confined::ChildProcesses;
use blixard_types::StorePath;

/// What every fixture flake begins with. `salt` makes the outputs of one run new to the store.
const PRELUDE: &str = r#"
  salt = "@salt@";
  make = name: script: derivation {
    inherit name salt;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/bin:/usr/bin:/run/current-system/sw/bin";
  };
  runner = name: let
    kernel = make "kernel-of-${name}" "echo making the kernel; echo ${salt} > $out";
  in make name "mkdir -p $out/bin; echo ${kernel} > $out/bin/microvm-run";
"#;

/// A Nix with a folder of roots of its own.
pub(crate) struct Trial {
    pub(crate) nix: NixCli,
    pub(crate) folder: tempfile::TempDir,
    salt: String,
}

impl Trial {
    /// `None`, and a word about it, where there is no Nix.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("roots");
        Self::with_roots(folder, roots)
    }

    pub(crate) fn with_roots(folder: tempfile::TempDir, roots: std::path::PathBuf) -> Option<Self> {
        if !is_there("nix") || !is_there("nix-store") {
            eprintln!("SKIPPED: nix and nix-store are not in PATH");
            return None;
        }
        let options = NixCliOptions { roots, ..NixCliOptions::default() };
        let salt = folder.path().display().to_string();
        let confinement: Arc<dyn Confinement> = Arc::new(ChildProcesses);
        Some(Self { nix: NixCli::new(options, &confinement), folder, salt })
    }

    /// A flake with these `microvms`, an expression that can use `make`, `runner` and `self`.
    pub(crate) fn flake(&self, microvms: &str) -> LockedSource {
        self.raw_flake(&format!("{{ microvms = {microvms}; }}"))
    }

    /// A flake with these outputs.
    pub(crate) fn raw_flake(&self, outputs: &str) -> LockedSource {
        self.source("source", "", outputs)
    }

    /// A flake in a sub-folder of a source of this name.
    pub(crate) fn source(&self, name: &str, subdir: &str, outputs: &str) -> LockedSource {
        let tree = tempfile::tempdir_in(self.folder.path()).unwrap();
        let folder = tree.path().join(subdir);
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        let prelude = PRELUDE.replace("@salt@", &self.salt);
        let flake = format!("{{ outputs = {{ self }}: let {prelude} in\n{outputs}; }}");
        std::fs::write(folder.join("flake.nix"), flake).unwrap();
        std::fs::write(folder.join("sub/bad.nix"), "make:\n  throw \"memory must be positive\"\n").unwrap();
        add_to_store(name, tree.path(), subdir)
    }

    pub(crate) async fn evaluate(
        &self,
        source: &LockedSource,
        selection: Selection,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        self.nix.evaluate(source.clone(), selection, silent()).await
    }

    /// The one vm of a flake.
    pub(crate) async fn one(&self, microvm: &str) -> EvaluatedVm {
        let source = self.flake(&format!("{{ web = {microvm}; }}"));
        let mut vms = self.evaluate(&source, Selection::All).await.unwrap();
        vms.pop().unwrap()
    }
}

pub(crate) fn silent() -> ProgressSink {
    Arc::new(|_| ())
}

/// A sink, and what it has taken.
pub(crate) fn listening() -> (ProgressSink, Arc<Mutex<Vec<NixProgress>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&heard);
    (Arc::new(move |told| taken.lock().unwrap().push(told)), heard)
}

/// Runs a program that must succeed; gives its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[allow(clippy::disallowed_methods, reason = "a test prepares the store without the adapter")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

fn is_there(program: &str) -> bool {
    command(program).arg("--version").output().is_ok()
}

fn add_to_store(name: &str, tree: &std::path::Path, subdir: &str) -> LockedSource {
    let tree = tree.to_str().unwrap();
    let features = ["--extra-experimental-features", "nix-command"];
    let path = run("nix", &[&features[..], &["store", "add", "--name", name, tree]].concat());
    let nar_hash = run("nix-store", &["--query", "--hash", &path]);
    LockedSource {
        path: path.parse::<StorePath>().unwrap(),
        nar_hash: nar_hash.parse().unwrap(),
        rev: None,
        rev_count: None,
        last_modified: None,
        subdir: subdir.to_owned(),
        lock: None,
    }
}
