//! etcd: Debian's package, unpacked below `target/`, not installed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use blixard_testkit::Workspace;

use super::group::{Group, Process, Tool};
use crate::step;

/// The release of Debian that has etcd 3.5 as a package of its own.
const RELEASE: &str = "trixie";
const PACKAGE: &str = "etcd-server";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const NODES: usize = 3;
const PEER_PORT: usize = 23_380;
const CLIENT_PORT: usize = 23_480;

/// The program, fetched by apt from this machine's mirror if it is not there yet.
pub(super) fn program(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.target().join("bench/etcd");
    let program = folder.join("root/usr/bin/etcd");
    if !program.exists() {
        step::step("fetching etcd", || fetch(&folder))?;
    }
    let version = output(Command::new(&program).arg("--version"))?;
    step::say(version.lines().next().unwrap_or_default());
    Ok(program)
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    for part in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let mirrors = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
    ]))?;
    let mirror = mirrors.lines().next().context("apt knows no mirror of Debian; run `apt-get update`")?;
    let sources = folder.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {RELEASE} main\n"))?;
    let options = [
        format!("Dir::Etc::SourceList={}", sources.display()),
        format!("Dir::Etc::SourceParts={}", folder.join("none").display()),
        format!("Dir::State={}", folder.join("state").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
    ];
    let apt = |arguments: &[&str]| {
        let options = options.iter().flat_map(|option| ["-o", option]);
        output(Command::new("apt-get").args(options).args(arguments).current_dir(folder))
    };
    apt(&["update"])?;
    apt(&["download", PACKAGE])?;
    let mut files = fs::read_dir(folder)?.filter_map(|found| Some(found.ok()?.path()));
    let package = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.context("apt has downloaded nothing")?;
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.join("root"))).map(drop)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Three nodes that are one cluster, with etcd's own settings.
pub(super) fn start(tool: &Tool, program: &Path, folder: &Path) -> anyhow::Result<Group> {
    fs::create_dir_all(folder)?;
    let peer = |number: usize| format!("http://127.0.0.1:{}", PEER_PORT + number);
    let endpoint = |number: usize| format!("http://127.0.0.1:{}", CLIENT_PORT + number);
    let all: Vec<String> = (0..NODES).map(|number| format!("n{number}={}", peer(number))).collect();
    let mut processes = Vec::new();
    for number in 0..NODES {
        let directory = folder.join(number.to_string()).display().to_string();
        let flags = [
            ("name", format!("n{number}")),
            ("data-dir", directory),
            ("listen-peer-urls", peer(number)),
            ("initial-advertise-peer-urls", peer(number)),
            ("listen-client-urls", endpoint(number)),
            ("advertise-client-urls", endpoint(number)),
            ("initial-cluster", all.join(",")),
            ("initial-cluster-state", "new".to_owned()),
            ("log-level", "error".to_owned()),
        ];
        let mut argv = vec![program.display().to_string()];
        argv.extend(flags.into_iter().map(|(name, value)| format!("--{name}={value}")));
        processes.push(Process::start(argv)?);
    }
    let endpoints = (0..NODES).map(endpoint).collect();
    let group = Group { name: "etcd", tool: tool.clone(), processes, endpoints, syncs, rejoined };
    group.leader()?;
    Ok(group)
}

/// A follower passes writes on, so that one which succeeds shows that it is back.
fn rejoined(tool: &Tool, _: &str, _: usize, endpoint: &str) -> anyhow::Result<()> {
    let load = ["load", "--endpoint", endpoint, "--callers", "1", "--measure-ms", "300"];
    blixard_testkit::wait::until("etcd to be back", std::time::Duration::from_secs(30), || {
        use blixard_testkit::wait::Seen;
        Ok(tool.run(&load).map_or_else(|error| Seen::Instead(error.to_string()), |_| Seen::Done(())))
    })
}

/// From its metrics.
fn syncs(_: &Tool, endpoint: &str) -> anyhow::Result<f64> {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics)?;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("etcd_disk_wal_fsync_duration_seconds_count "));
    Ok(line.context("etcd tells no count of fsyncs")?.trim().parse()?)
}
