//! The NixOS tests of `checks/nixos`, as they are written, on test hosts: their Python, their flakes, the configuration
//! that their modules make. NixOS is a stand-in, on the machine and in the guest, so that this shows what the tests
//! say of Blixard, and nothing of NixOS.

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario, Skipped};
use crate::Workspace;
use crate::beside::{self, FOLDER};
use crate::host::Host;
use crate::host::install::with_programs_of_debian;
use crate::process;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "nixos_tests",
    shows: "the Python of checks/nixos is true of Blixard as it is: each command, each word of its output, each unit",
    needs: Needs::Blixard,
    run,
};

/// Of one machine each. The others need more of NixOS, or machines that the driver can crash.
const TESTS: [&str; 3] = ["single-host", "upgrade", "profiles"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lib = context.beside("BLIXARD_NIXPKGS_LIB", "nix-community/nixpkgs.lib")?;
    let microvm = context.beside("BLIXARD_MICROVM_NIX", "microvm-nix/microvm.nix")?;
    if process::run(&["python3", "--version"]).is_err() {
        return Err(Skipped("needs python3, which executes the tests".to_owned()).into());
    }
    for test in TESTS {
        let host = &context.host()?;
        beside::make_account(host)?;
        beside::prepare(host, &lib, &microvm)?;
        beside::prepare_ours(host)?;
        beside::settle_inputs(host)?;
        let etc = stand_in(host, test)?;
        host.shell("ip link add br-blixard type bridge; ip address add 10.79.0.1/24 dev br-blixard; ip link set br-blixard up")?;
        let config = host.run_ok(&["cat", &format!("{etc}/blixard/blixardd.toml")])?;
        host.install_blixard_with(&context.binaries()?, &with_programs_of_debian(&config))?;
        drive(host, test).with_context(|| format!("checks/nixos/{test}/test.py"))?;
        context.end_worlds()?;
    }
    Ok(())
}

/// Has the tests' guests do with busybox what NixOS would, and wait less; gives the folder of the test's /etc.
fn stand_in(host: &Host, test: &str) -> anyhow::Result<String> {
    let ours = format!("{FOLDER}/blixard");
    host.shell(&format!(
        "cd {ours}/checks; sed -i -e 's,^{{$,{{ imports = [ ./offline/services.nix ];,' -e s/600000/60000/ patient.nix; \
         grep -q services patient.nix; grep -q 60000 patient.nix"
    ))?;
    let output = format!("path:{ours}#checks.x86_64-linux.vm-{test}.etc.machine");
    let etc = host.run_ok(&["nix", "build", "--no-link", "--print-out-paths", &output])?.trim().to_owned();
    host.shell(&format!("cp -rL --no-preserve=mode {etc}/. /etc/"))?;
    Ok(etc)
}

fn drive(host: &Host, test: &str) -> anyhow::Result<()> {
    let checks = Workspace::here()?.root().join("checks");
    let (driver, script) = (checks.join("offline/driver.py"), checks.join(format!("nixos/{test}/test.py")));
    let machine = format!("machine={}", serde_json::to_string(&host.entrance()?)?);
    let argv = ["python3", &driver.display().to_string(), &script.display().to_string(), &machine];
    let output = process::capture(&argv, &format!("driver.py {test}"), &[])?;
    let told = output.stdout.matches("subtest: ").count();
    let written = std::fs::read_to_string(&script)?.matches("with subtest(").count();
    output.ok()?;
    ensure!(told >= written, "{told} subtests of {written} have run");
    Ok(())
}
