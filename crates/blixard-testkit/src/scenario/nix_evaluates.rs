//! Our own Nix: everything parses; with nixpkgs' library and microvm.nix beside it everything evaluates, to
//! what the snapshots say, and what is wrong is refused in words.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, Needs, Scenario, Skipped};
use crate::Workspace;
use crate::beside::{self, FOLDER};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "nix_evaluates",
    shows: "flake, modules, profiles, templates and checks parse, and evaluate to what their snapshots say",
    needs: Needs::Blixard,
    run,
};

/// With this variable set the snapshots are written, not compared.
const UPDATE: &str = "BLIXARD_UPDATE_SNAPSHOTS";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lib = context.beside("BLIXARD_NIXPKGS_LIB", "nix-community/nixpkgs.lib");
    let microvm = context.beside("BLIXARD_MICROVM_NIX", "microvm-nix/microvm.nix");
    let host = &context.host()?;
    beside::prepare_ours(host)?;
    let parsed = everything_parses(host)?;
    host.copy_in(&context.binaries()?.blixardd, "/usr/local/bin/blixardd", 0o755)?;
    let taken = the_daemon_takes_its_configurations(host)?;
    let (lib, microvm) = match (lib, microvm) {
        (Ok(lib), Ok(microvm)) => (lib, microvm),
        (Err(why), _) | (_, Err(why)) if why.is::<Skipped>() => {
            let text =
                format!("{parsed} files parse, the daemon takes {taken} configurations; evaluating {why}");
            return Err(Skipped(text).into());
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    beside::prepare(host, &lib, &microvm)?;
    beside::prepare_cases(host)?;

    compare(host, "snapshots", &snapshots_folder()?)?;
    compare(host, "pages", &Workspace::here()?.root().join("docs/guide"))?;
    what_is_wrong_is_refused(host)?;
    evaluate(host, "path:/root/beside/cases#evaluated", "x: x").context("what must evaluate")?;
    the_flake_is_whole(host)
}

fn snapshots_folder() -> anyhow::Result<PathBuf> {
    Ok(Workspace::here()?.root().join("checks/offline/snapshots"))
}

/// The number of files.
fn everything_parses(host: &Host) -> anyhow::Result<usize> {
    let files = host.run_ok(&["find", &format!("{FOLDER}/blixard"), "-name", "*.nix"])?;
    let files: Vec<&str> = files.lines().collect();
    ensure!(files.len() > 30, "only {} files of Nix were found", files.len());
    host.run_ok(&[&["nix-instantiate", "--parse"], files.as_slice()].concat()).map(drop)?;
    Ok(files.len())
}

/// What the module has made is what the real daemon reads; the number of files.
fn the_daemon_takes_its_configurations(host: &Host) -> anyhow::Result<usize> {
    let folder = format!("{FOLDER}/blixard/checks/offline/snapshots");
    let listed = host.run_ok(&["find", &folder, "-name", "*.toml"])?;
    for file in listed.lines() {
        host.run_ok(&["blixardd", "--config", file, "--check-config"])?;
    }
    ensure!(listed.lines().count() > 1, "there are no snapshots of blixardd.toml in {folder}");
    Ok(listed.lines().count())
}

fn evaluate(host: &Host, reference: &str, apply: &str) -> anyhow::Result<Value> {
    let argv = ["nix", "eval", "--json", "--no-write-lock-file", reference, "--apply", apply];
    let json = host.run_ok(&argv)?;
    serde_json::from_str(&json).with_context(|| format!("{reference} is no JSON: {json}"))
}

/// Compares the texts of an output of the cases with the files of a folder.
fn compare(host: &Host, output: &str, folder: &std::path::Path) -> anyhow::Result<()> {
    let texts = evaluate(host, &format!("path:{FOLDER}/cases#{output}"), "x: x")?;
    let texts: BTreeMap<String, String> = serde_json::from_value(texts)?;
    let mut other = Vec::new();
    for (name, text) in texts {
        let file = folder.join(&name);
        let is_json = file.extension().is_some_and(|extension| extension == "json");
        let text = if is_json { pretty(&text)? } else { text };
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(folder)?;
            fs::write(&file, &text)?;
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            other.push(format!("{} should be:\n{text}", file.display()));
        }
    }
    ensure!(
        other.is_empty(),
        "{} snapshots are other than what the modules give; `cargo xtask nix --update` writes them:\n{}",
        other.len(),
        other.join("\n")
    );
    Ok(())
}

fn pretty(json: &str) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&serde_json::from_str::<Value>(json)?)? + "\n")
}

/// Every wrong setting fails with its words.
fn what_is_wrong_is_refused(host: &Host) -> anyhow::Result<()> {
    let cases = format!("path:{FOLDER}/cases#refused");
    let says = evaluate(host, &cases, "builtins.mapAttrs (_: case: case.says)")?;
    let says: BTreeMap<String, String> = serde_json::from_value(says)?;
    ensure!(says.len() > 20, "there are only {} cases", says.len());
    let mut wrong = Vec::new();
    for (name, words) in says {
        let reference = format!("{cases}.{name}.value");
        let output = host.run(&["nix", "eval", "--json", "--no-write-lock-file", &reference])?;
        if output.status.success() {
            wrong.push(format!("{name} is not refused"));
        } else if !plain(&output.stderr).contains(&words) {
            wrong.push(format!("{name} does not say {words:?} but\n{}", output.stderr.trim_end()));
        }
    }
    ensure!(wrong.is_empty(), "{} cases are not as they should be:\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}

/// Without colours, and on one line.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    (plain + rest).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `nix flake show` and `nix flake check`, as a user would, on stand-in inputs.
fn the_flake_is_whole(host: &Host) -> anyhow::Result<()> {
    let flake = format!("path:{FOLDER}/blixard");
    let inputs = beside::overridden();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let common = ["--no-write-lock-file", &flake];
    host.run_ok(&[&["nix", "flake", "show", "--json", "--all-systems"], &inputs[..], &common].concat())?;
    host.run_ok(&[&["nix", "flake", "check", "--no-build"], &inputs[..], &common].concat()).map(drop)
}
