//! A stock Nix uses a node as its binary cache.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stock_nix_client",
    shows: "nix copy, path-info and build work with a node's binary cache, by its key, and only with it",
    needs: Needs::Blixard,
    run,
};

const OPEN: &str = "[cache]\nlisten = \"0.0.0.0:5000\"\n";
const LIMIT: Duration = Duration::from_mins(1);
const WRONG_KEY: &str = "blixard-n1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const FORGET: &str = "rm -rf /root/.cache/nix; nix-store --gc >/dev/null 2>&1";

/// The node's cache, and a client that has nothing.
struct Bed {
    node: Host,
    client: Host,
    url: String,
    key: String,
    /// A runner that the node's roots keep.
    path: String,
}

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let [node, client] = context.world(2)?.hosts() else { anyhow::bail!("a world of two hosts") };
    let (node, client) = (node.clone(), client.clone());
    node.install_blixard_with(&binaries, OPEN)?;
    let flake = fixture::prepare(&node, Fixture::Sleepers(1))?;
    node.run_ok(&["blixard", "deploy", &flake])?;
    let key = node.run_ok(&["cat", "/var/lib/blixard/cache-key.pub"])?.trim().to_owned();
    let root = "readlink $(find /nix/var/nix/gcroots/blixard/vms -type l | head -n 1)";
    let path = node.shell(root)?.trim().to_owned();
    let url = format!("http://{}:5000", node.address());
    let bed = Bed { node, client, url, key, path };
    bed.stock_commands_work().context("stock commands")?;
    bed.a_wrong_key_is_refused().context("a wrong key")?;
    bed.nothing_else_is_served().context("what no root keeps")?;
    bed.http().context("HTTP")?;
    bed.a_token_is_asked_for(context).context("a token")
}

impl Bed {
    fn copy(&self, key: &str, options: &str) -> String {
        let Self { url, path, .. } = self;
        format!("nix copy --from {url} {path} --option trusted-public-keys '{key}' {options}")
    }

    fn stock_commands_work(&self) -> anyhow::Result<()> {
        let Self { client, url, key, path, .. } = self;
        let info = client.run_ok(&["nix", "path-info", "--store", url, "--recursive", path])?;
        ensure!(info.contains(path.as_str()), "path-info says {info}");
        client.shell(&self.copy(key, ""))?;
        client.run_ok(&["nix-store", "--query", "--requisites", path])?;
        client.run_ok(&["nix-store", "--verify", "--check-contents"])?;
        client.shell(FORGET)?;
        let options = format!("--substituters {url} --trusted-public-keys {key}");
        client.shell(&format!("nix build --no-link {options} {path}"))?;
        client.run_ok(&["nix-store", "--check-validity", path])?;
        client.shell(FORGET).map(drop)
    }

    fn a_wrong_key_is_refused(&self) -> anyhow::Result<()> {
        let refused = self.client.run(&["bash", "-c", &self.copy(WRONG_KEY, "")])?;
        let said = refused.unexpected("was copied");
        ensure!(!refused.status.success() && refused.stderr.contains("signature"), "{said}");
        let valid = self.client.run(&["nix-store", "--check-validity", &self.path])?;
        ensure!(!valid.status.success(), "it was copied all the same");
        Ok(())
    }

    fn nothing_else_is_served(&self) -> anyhow::Result<()> {
        let other = self.node.shell("date +%s%N > /tmp/secret; nix-store --add /tmp/secret")?;
        let other = other.trim();
        let asked = self.client.run(&["nix", "path-info", "--store", &self.url, other])?;
        ensure!(!asked.status.success(), "{}", asked.unexpected("is served"));
        ensure!(asked.stderr.contains("is not valid"), "{}", asked.unexpected("is refused in another way"));
        Ok(())
    }

    fn http(&self) -> anyhow::Result<()> {
        let Self { client, url, path, .. } = self;
        let hash = path.trim_start_matches("/nix/store/").split('-').next().unwrap_or_default();
        let curl = |arguments: &str| client.shell(&format!("curl --silent --show-error {arguments}"));
        let narinfo = curl(&format!("{url}/{hash}.narinfo"))?;
        let nar = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).context("no URL")?;
        let size = narinfo.lines().find_map(|line| line.strip_prefix("NarSize: ")).context("no NarSize")?;
        let head = curl(&format!("--head {url}/{nar}"))?.to_lowercase();
        ensure!(head.contains("200 ok") && head.contains(&format!("content-length: {size}")), "{head}");
        curl(&format!("-o /tmp/whole {url}/{nar}"))?;
        curl(&format!("-o /tmp/begin -r 0-99 {url}/{nar}; curl -s -o /tmp/rest -r 100- {url}/{nar}"))?;
        client.shell("cat /tmp/begin /tmp/rest | cmp - /tmp/whole")?;
        let status = "-o /dev/null -w '%{http_code}'";
        for (what, expected) in [
            (format!("-r 99999999999- {url}/{nar}"), "416"),
            (format!("{url}/{}.narinfo", "0".repeat(32)), "404"),
            (format!("{url}/"), "404"),
            (format!("--path-as-is {url}/../../etc/passwd"), "404"),
            (format!("-X POST {url}/nix-cache-info"), "405"),
        ] {
            let answered = curl(&format!("{status} {what}"))?;
            ensure!(answered == expected, "{what} is answered by {answered}, not {expected}");
        }
        Ok(())
    }

    fn a_token_is_asked_for(&self, context: &Context) -> anyhow::Result<()> {
        let Self { node, client, key, url, .. } = self;
        let config = format!("{OPEN}token_file = \"/etc/blixard/token\"\n");
        node.write("/etc/blixard/blixardd.toml", config, 0o644)?;
        node.run_ok(&["systemctl", "restart", "blixardd"])?;
        let _ = context;
        // A token that is not there is a reason to serve no cache, and none to end the daemon.
        node.run_ok(&["blixard", "vm", "list"])?;
        node.write("/etc/blixard/token", "open sesame\n", 0o600)?;
        wait::until("the cache to be served", LIMIT, || {
            let answered = client.run(&["curl", "--silent", &format!("{url}/nix-cache-info")])?;
            let all = answered.unexpected("is not served");
            Ok(if answered.status.success() { Seen::Done(()) } else { Seen::Instead(all.to_string()) })
        })?;
        let refused = client.run(&["bash", "-c", &self.copy(key, "")])?;
        ensure!(!refused.status.success(), "{}", refused.unexpected("was copied without the token"));
        let netrc = format!("machine {} login any password \"open sesame\"\n", node.address());
        client.write("/root/netrc", netrc, 0o600)?;
        client.shell("rm -rf /root/.cache/nix")?;
        client.shell(&self.copy(key, "--option netrc-file /root/netrc"))?;
        client.run_ok(&["nix-store", "--check-validity", &self.path]).map(drop)
    }
}
