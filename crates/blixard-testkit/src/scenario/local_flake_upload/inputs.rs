//! Inputs: local ones are sent, remote ones are fetched by the builder, as they were locked.

use anyhow::ensure;

use super::super::bad_input::{Expected, check};
use super::{Case, HOME, deploy, is_as_evaluated_locally, owner, owner_ok, runner};
use crate::host::Host;

pub(super) const CASES: &[Case] = &[
    ("a local input", a_local_input),
    ("a local input that is locked nowhere", an_unlocked_local_input),
    ("a remote input", a_remote_input),
    ("a remote input that is gone", a_remote_input_that_is_gone),
];

const SERVER: &str = "127.0.0.1:8099";

fn flake(input: &str, name: &str) -> String {
    let runner = runner(name, "grep -q lib ${lib}/file", "\"${lib}\"");
    format!(
        "{{ inputs.lib = {{ url = \"{input}\"; flake = false; }}; \
         outputs = {{ self, lib }}: {{ microvms.{name} = {runner}; }}; }}"
    )
}

fn a_local_input(host: &Host) -> anyhow::Result<()> {
    host.write("/tmp/flake.nix", flake(&format!("path:{HOME}/lib"), "local"), 0o644)?;
    let lock = "nix flake lock --store ~/.cache/blixard/store 2>/dev/null";
    owner_ok(
        host,
        &format!("mkdir -p lib local; echo lib > lib/file; cd local; cp /tmp/flake.nix .; {lock}"),
    )?;
    let said = deploy(host, "./local")?;
    ensure!(said.matches("uploading ").count() == 2, "the flake and its input are sent:\n{said}");
    is_as_evaluated_locally(host, &format!("{HOME}/local"), "local")?;

    // Not what was locked, although the input's new content is there to be read.
    owner_ok(host, "echo lib changed > lib/file; echo >> local/flake.nix")?;
    let said = deploy(host, "./local")?;
    ensure!(said.matches("uploading ").count() == 1, "the input that was locked is there already:\n{said}");
    is_as_locked(host)
}

/// The builder has the input by now. Where it has not, it cannot be had any more, and that is said.
fn is_as_locked(host: &Host) -> anyhow::Result<()> {
    owner_ok(
        host,
        "echo lib once more > lib/file; cp -r local other; sed -i s/microvms.local/microvms.other/ other/flake.nix
         cd other; nix flake update --store ~/.cache/blixard/store 2>/dev/null
         echo lib at last > ~/lib/file; nix-store --store ~/.cache/blixard/store --gc --quiet",
    )?;
    let refused = owner(host, "blixard deploy ./other")?;
    check(&refused, &Expected { code: 7, says: &["mismatch"], hint: "" })
}

fn an_unlocked_local_input(host: &Host) -> anyhow::Result<()> {
    host.write("/tmp/flake.nix", flake(&format!("path:{HOME}/lib"), "unlocked"), 0o644)?;
    owner_ok(host, "mkdir unlocked; cp /tmp/flake.nix unlocked/")?;
    let said = deploy(host, "./unlocked")?;
    ensure!(said.contains("hint: `nix flake lock` pins the inputs"), "{said}");
    is_as_evaluated_locally(host, &format!("{HOME}/unlocked"), "unlocked")
}

fn serve(host: &Host) -> anyhow::Result<()> {
    host.shell(&format!(
        "systemctl stop www.service 2>/dev/null || true
         mkdir -p /srv/www /tmp/lib/lib; echo lib from afar > /tmp/lib/lib/file
         tar -C /tmp/lib -czf /srv/www/lib.tar.gz lib
         systemd-run --quiet --unit=www busybox httpd -f -p {SERVER} -h /srv/www"
    ))?;
    host.shell(&format!("curl --silent --fail --retry 50 --retry-connrefused --retry-delay 1 http://{SERVER}/lib.tar.gz > /dev/null"))
        .map(drop)
}

fn stop_serving(host: &Host) -> anyhow::Result<()> {
    host.run_ok(&["systemctl", "stop", "www.service"]).map(drop)
}

/// The owner has it in her own store, the builder has to fetch it.
fn a_remote_input(host: &Host) -> anyhow::Result<()> {
    serve(host)?;
    host.write("/tmp/flake.nix", flake(&format!("tarball+http://{SERVER}/lib.tar.gz"), "remote"), 0o644)?;
    owner_ok(
        host,
        "mkdir remote; cd remote; cp /tmp/flake.nix .; nix flake lock --store ~/.cache/blixard/store 2>/dev/null",
    )?;
    let said = deploy(host, "./remote")?;
    ensure!(said.matches("uploading ").count() == 1, "only the flake is sent:\n{said}");
    ensure!(said.contains("fetching 1 locked input\n"), "the builder fetches:\n{said}");
    is_as_evaluated_locally(host, &format!("{HOME}/remote"), "remote")?;

    stop_serving(host)?;
    owner_ok(host, "echo '# changed' >> remote/flake.nix")?;
    let said = deploy(host, "./remote")?;
    ensure!(!said.contains("fetching"), "what is there was fetched again:\n{said}");
    Ok(())
}

fn a_remote_input_that_is_gone(host: &Host) -> anyhow::Result<()> {
    serve(host)?;
    host.shell("echo more >> /tmp/lib/lib/file; tar -C /tmp/lib -czf /srv/www/more.tar.gz lib")?;
    host.write("/tmp/flake.nix", flake(&format!("tarball+http://{SERVER}/more.tar.gz"), "gone"), 0o644)?;
    owner_ok(
        host,
        "mkdir gone; cd gone; cp /tmp/flake.nix .; nix flake lock --store ~/.cache/blixard/store 2>/dev/null",
    )?;
    stop_serving(host)?;
    let refused = owner(host, "blixard deploy ./gone")?;
    let says = &["the flake's inputs could not be fetched", "more.tar.gz"];
    check(&refused, &Expected { code: 7, says, hint: "the builder fetches them" })?;
    // Another file under the same name is not what was locked.
    host.shell("echo other > /tmp/lib/lib/file; tar -C /tmp/lib -czf /srv/www/more.tar.gz lib")?;
    serve(host)?;
    let refused = owner(host, "blixard deploy ./gone")?;
    check(&refused, &Expected { code: 7, says: &["could not be fetched", "mismatch"], hint: "" })?;
    stop_serving(host)
}
