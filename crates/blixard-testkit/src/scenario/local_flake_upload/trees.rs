//! Trees of every kind: what arrives is what Nix takes for the flake, to the bit.

use anyhow::ensure;

use super::{Case, HOME, LIMIT, begin, deploy, is_as_evaluated_locally, owner_ok, runner, said};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const CASES: &[Case] = &[
    ("a clean git tree with a revision", a_clean_tree),
    ("a dirty git tree", a_dirty_tree),
    ("a folder without git", a_plain_folder),
    ("200 MiB", a_large_tree),
];

/// The most that either side may need for a tree of 200 MiB, in KiB.
const CLI_MAX_KIB: u64 = 40 * 1024;
const DAEMON_GROWTH_MAX_KIB: u64 = 24 * 1024;

/// A git repository with a flake in a folder of it, a program, links, and a submodule, which Nix leaves out.
fn a_clean_tree(host: &Host) -> anyhow::Result<()> {
    let check = "test -x ${self.sourceInfo}/tools/run; test ! -x ${self.sourceInfo}/tools/notes; \
        test \"$(readlink ${self.sourceInfo}/link)\" = tools/run; test -L ${self.sourceInfo}/nowhere; \
        test ! -e ${self.sourceInfo}/module/file; test ! -e ${self.sourceInfo}/untracked";
    let words = r#""${self.rev} ${toString self.revCount} ${toString self.lastModified} ${self.narHash}""#;
    let flake =
        format!("{{ outputs = {{ self }}: {{ microvms.site = {}; }}; }}", runner("site", check, words));
    host.write("/tmp/flake.nix", flake, 0o644)?;
    owner_ok(
        host,
        "git config --global user.name Carol; git config --global user.email carol@localhost
         git config --global init.defaultBranch main
         mkdir module; cd module; git init -q; echo x > file; git add .; git commit -qm module; cd
         mkdir -p infra/sub/vm infra/tools; cd infra; git init -q
         cp /tmp/flake.nix sub/vm/; echo 'echo hi' > tools/run; chmod +x tools/run; echo words > tools/notes
         ln -s tools/run link; ln -s /nowhere/at/all nowhere
         git submodule --quiet add ~/module module
         git add .; git commit -qm one; echo secret > untracked",
    )?;
    let flake = format!("{HOME}/infra/sub/vm");
    let said = deploy(host, &format!("'{flake}'"))?;
    ensure!(said.contains("uploading /nix/store/"), "nothing was uploaded:\n{said}");
    is_as_evaluated_locally(host, &flake, "site")?;
    let again = deploy(host, &format!("'{flake}'"))?;
    ensure!(!again.contains("uploading"), "what is there was sent again:\n{again}");
    Ok(())
}

fn a_dirty_tree(host: &Host) -> anyhow::Result<()> {
    owner_ok(
        host,
        "cd infra; sed -i 's/self.rev}/self.rev or \"dirty\"}/; s/self.revCount/(self.revCount or 0)/' sub/vm/flake.nix
         echo changed >> tools/notes; echo new > added; git add added",
    )?;
    let flake = format!("{HOME}/infra/sub/vm");
    let said = deploy(host, &format!("'{flake}'"))?;
    ensure!(said.contains("uploading /nix/store/") && said.contains("is dirty"), "{said}");
    is_as_evaluated_locally(host, &flake, "site")
}

fn a_plain_folder(host: &Host) -> anyhow::Result<()> {
    let flake = format!(
        "{{ outputs = {{ self }}: {{ microvms.plain = {}; }}; }}",
        runner("plain", "test -s '${self}/ü b'; test -d ${self}/empty", "\"${self}\"")
    );
    host.write("/tmp/flake.nix", flake, 0o644)?;
    owner_ok(host, "mkdir -p plain/empty; cd plain; cp /tmp/flake.nix .; echo x > 'ü b'")?;
    deploy(host, "./plain")?;
    is_as_evaluated_locally(host, &format!("{HOME}/plain"), "plain")
}

/// Neither side has a source in memory.
fn a_large_tree(host: &Host) -> anyhow::Result<()> {
    let flake = format!(
        "{{ outputs = {{ self }}: {{ microvms.large = {}; }}; }}",
        runner("large", "test $(stat -c %s ${self}/data) = 209715200", "\"${self}\"")
    );
    host.write("/tmp/flake.nix", flake, 0o644)?;
    owner_ok(host, "mkdir large; cd large; cp /tmp/flake.nix .; head -c 209715200 /dev/urandom > data")?;
    let daemon = || peak(host, "$(systemctl show --property=MainPID --value blixardd.service)");
    host.shell("echo 5 > /proc/$(systemctl show --property=MainPID --value blixardd.service)/clear_refs")?;
    let before = daemon()?;
    begin(host, "blixard deploy ./large")?;
    let mut cli = 0;
    let said = wait::until("the deploy to end", LIMIT, || {
        cli = cli.max(peak(host, "$(pgrep --exact --newest blixard)").unwrap_or(0));
        let said = said(host)?;
        Ok(if said.contains("exit ") { Seen::Done(said) } else { Seen::Instead(said) })
    })?;
    ensure!(said.contains("exit 0"), "{said}");
    let growth = daemon()?.saturating_sub(before);
    println!("200 MiB: the command line needed {} MiB, the daemon {} MiB more", cli >> 10, growth >> 10);
    ensure!(cli > 0 && cli < CLI_MAX_KIB, "the command line needed {cli} KiB");
    ensure!(growth < DAEMON_GROWTH_MAX_KIB, "the daemon needed {growth} KiB more");
    Ok(())
}

/// The most memory that a process had, in KiB.
fn peak(host: &Host, pid: &str) -> anyhow::Result<u64> {
    let line = host.shell(&format!("grep VmHWM: /proc/{pid}/status"))?;
    Ok(line.split_whitespace().nth(1).unwrap_or_default().parse()?)
}
