//! What surrounds a command wrongly: who calls, the configuration, a daemon that is not there.

use anyhow::ensure;

use super::{Expected, check, refused};
use crate::host::Host;

const CONFIG: &str = "/etc/blixard/blixardd.toml";
/// The daemon's code for a configuration that it cannot use.
const BAD_CONFIG: i32 = 78;

/// Configurations with the key that is wrong, and why.
const CONFIGS: &[(&str, &[&str])] = &[
    ("[node]\nnmae = \"a\"\n", &["node.nmae", "unknown field `nmae`"]),
    ("[nodes]\nname = \"a\"\n", &["nodes", "unknown field `nodes`"]),
    ("[node]\nname = \"A B\"\n", &["node.name", "must be lower-case letters"]),
    ("[node]\nroles = [\"king\"]\n", &["node.roles", "king"]),
    ("[node]\nroles = [\"host\", \"builder\"]\n", &["node.roles", "needs the role `server`"]),
    ("[storage]\ndata_dir = \"here\"\n", &["storage.data_dir", "is not an absolute path"]),
    ("[storage]\ndata_dir = 1\n", &["storage.data_dir", "invalid type: integer `1`"]),
    ("[host]\nruntime_dir = \"/tmp\"\n", &["host.runtime_dir", "is not below /run"]),
    ("[log]\nfilter = \"loudly=everything=1\"\n", &["log.filter"]),
    ("[node\n", &["line 1"]),
];

/// Tries each.
pub(super) fn each(host: &Host, case: &mut dyn FnMut(&str, anyhow::Result<()>)) {
    case("a stranger", a_stranger_may_not_call(host));
    case("a member of the group", a_member_of_the_group_may(host));
    for (text, says) in CONFIGS {
        case(&format!("the configuration {text:?}"), a_bad_configuration_is_named(host, text, says));
    }
    case("no configuration", no_configuration_is_named(host));
    case("a daemon with a bad configuration", the_daemon_does_not_start_with_it(host));
    case("no daemon", without_a_daemon_nothing_works(host));
}

fn a_stranger_may_not_call(host: &Host) -> anyhow::Result<()> {
    let as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "blixard"];
    let expected = Expected {
        code: 4,
        says: &["cannot connect to blixardd at /run/blixard/blixardd.sock", "ermission denied"],
        hint: "member of the group `blixard`",
    };
    for words in [&["vm", "list"][..], &["vm", "delete", "sleeper-1"], &["deploy", "/root/fixtures/sleepers"]]
    {
        check(&host.run(&[&as_nobody, words].concat())?, &expected)?;
    }
    Ok(())
}

fn a_member_of_the_group_may(host: &Host) -> anyhow::Result<()> {
    host.shell("id alice 2>/dev/null || useradd --create-home --groups blixard alice")?;
    let list = host.run_ok(&["runuser", "--user", "alice", "--", "blixard", "vm", "list"])?;
    ensure!(list.contains("default/sleeper-1"), "a member sees something else: {list}");
    Ok(())
}

fn a_bad_configuration_is_named(host: &Host, text: &str, says: &[&str]) -> anyhow::Result<()> {
    let file = "/root/bad.toml";
    host.write(file, text, 0o644)?;
    let output = host.run(&["blixardd", "--check-config", "--config", file])?;
    let wrong = |what: &str| output.unexpected(what);
    ensure!(output.status.code() == Some(BAD_CONFIG), wrong("has another code"));
    ensure!(
        output.stderr.starts_with(&format!("blixardd: error: {file}: ")),
        wrong("does not name the file")
    );
    for words in says {
        ensure!(output.stderr.contains(words), wrong(&format!("does not say {words:?}")));
    }
    Ok(())
}

fn no_configuration_is_named(host: &Host) -> anyhow::Result<()> {
    let output = host.run(&["blixardd", "--config", "/root/no.toml"])?;
    ensure!(output.status.code() == Some(BAD_CONFIG), output.unexpected("has another code"));
    ensure!(
        output.stderr.contains("cannot read the configuration /root/no.toml"),
        output.unexpected("is unclear")
    );
    host.run_ok(&["blixardd", "--check-config", "--config", CONFIG]).map(drop)
}

/// Guests go on meanwhile, and systemd does not try again and again.
fn the_daemon_does_not_start_with_it(host: &Host) -> anyhow::Result<()> {
    let good = host.run_ok(&["cat", CONFIG])?;
    host.write(CONFIG, format!("{good}\n[api]\nsockett = 1\n"), 0o644)?;
    let restarted = host.run(&["systemctl", "restart", "blixardd.service"])?;
    let state =
        host.run_ok(&["systemctl", "show", "--property=ActiveState,ExecMainStatus", "blixardd.service"]);
    let said = host.run_ok(&["journalctl", "--no-pager", "--output=cat", "--lines=20", "--unit=blixardd"]);
    host.write(CONFIG, good, 0o644)?;
    host.run_ok(&["systemctl", "reset-failed", "blixardd.service"])?;
    host.run_ok(&["systemctl", "restart", "blixardd.service"])?;
    ensure!(!restarted.status.success(), "the daemon starts with a wrong key");
    let (state, said) = (state?, said?);
    ensure!(state.contains("=failed") && state.contains("=78"), "the unit is tried again: {state}");
    ensure!(said.contains(&format!("{CONFIG}: api.sockett: unknown field `sockett`")), "it says: {said}");
    Ok(())
}

fn without_a_daemon_nothing_works(host: &Host) -> anyhow::Result<()> {
    let expected = Expected {
        code: 3,
        says: &["cannot connect to blixardd at /run/blixard/blixardd.sock"],
        hint: "systemctl status blixardd",
    };
    host.run_ok(&["systemctl", "stop", "blixardd.service"])?;
    let tried = [&["vm", "list"][..], &["vm", "stop", "sleeper-1"], &["deploy", "/root/fixtures/sleepers"]]
        .into_iter()
        .try_for_each(|words| refused(host, words, &expected));
    host.run_ok(&["systemctl", "start", "blixardd.service"])?;
    tried
}
