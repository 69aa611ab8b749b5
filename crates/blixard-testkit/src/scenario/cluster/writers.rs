//! Writers that count what was acknowledged. A write is a vm's wish (`vm start` and `vm stop` by turns),
//! each acknowledged only when the cluster has it; what was acknowledged last is what must be there.

use anyhow::{Context as _, ensure};

use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

/// A shell loop that turns a vm on and off until it is told to end, and writes what was acknowledged.
const WRITER: &str = r#"
vm=$1; out=/run/writers/$vm; mkdir -p /run/writers; : >"$out"; n=0
while [ ! -e /run/writers/end ]; do
  if [ $((n % 2)) = 0 ]; then wish=stop; else wish=start; fi
  echo "try $n $wish" >>"$out"
  if timeout 30 blixard vm "$wish" --no-wait "$vm" >/dev/null 2>>"$out.err"; then
    echo "ack $n $wish" >>"$out"; n=$((n + 1))
  fi
done
echo done >>"$out"
"#;

/// Deploys so many vms that only sleep, to write to.
pub(super) fn deploy_sleepers(host: &Host, count: u32) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, Fixture::Sleepers(count))?;
    host.run_ok(&["blixard", "deploy", &flake]).map(drop)
}

/// Starts a writer for each of these vms on a host.
pub(super) fn start(host: &Host, vms: &[String]) -> anyhow::Result<()> {
    host.write("/usr/local/bin/writer", format!("#!/bin/bash{WRITER}"), 0o755)?;
    host.run_ok(&["rm", "-rf", "/run/writers"])?;
    for vm in vms {
        let unit = format!("--unit=writer-{vm}");
        host.run_ok(&["systemd-run", "--quiet", "--collect", &unit, "/usr/local/bin/writer", vm])?;
    }
    Ok(())
}

/// How many writes were acknowledged so far.
pub(super) fn acknowledged(host: &Host) -> anyhow::Result<usize> {
    let count = host.shell("cat /run/writers/sleeper-* 2>/dev/null | grep -c ^ack || true")?;
    Ok(count.trim().parse()?)
}

/// Ends the writers and waits for their last word.
pub(super) fn stop(host: &Host, vms: &[String]) -> anyhow::Result<()> {
    host.run_ok(&["touch", "/run/writers/end"])?;
    wait::until("the writers to end", super::LIMIT, || {
        let ended = host.shell("cat /run/writers/sleeper-* | grep -c ^done || true")?;
        let all = ended.trim() == vms.len().to_string();
        Ok(if all { Seen::Done(()) } else { Seen::Instead(ended) })
    })
}

/// Each vm's wish is the one acknowledged last, or the one that was tried after that: no acknowledged
/// write is lost. And each wish that was acknowledged is one event: none was applied twice.
pub(super) fn check(writer: &Host, asked: &Host, vms: &[String]) -> anyhow::Result<()> {
    for vm in vms {
        let log = writer.run_ok(&["cat", &format!("/run/writers/{vm}")])?;
        let word = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
        let acknowledged = log.lines().rfind(|line| line.starts_with("ack"));
        let tried = log.lines().rfind(|line| line.starts_with("try"));
        let allowed = [acknowledged, tried].map(|line| line.map(word).unwrap_or_default());
        let json = asked.run_ok(&["blixard", "vm", "show", "-o", "json", vm])?;
        let shown: serde_json::Value = serde_json::from_str(&json)?;
        let desired = shown.get("desired").and_then(serde_json::Value::as_str).context("no wish")?;
        let wish = if desired == "running" { "start" } else { "stop" };
        ensure!(allowed.contains(&wish.to_owned()), "{vm} is to {wish}, and its writer said {allowed:?}");
    }
    Ok(())
}
