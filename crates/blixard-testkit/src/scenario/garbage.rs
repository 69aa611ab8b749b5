//! Callers that make no sense: the daemon goes on, costs no more than before, and serves the others.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::bad_input::Standing;
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "garbage",
    shows: "noise, idle connections and a caller who never reads neither end the daemon nor keep it busy",
    needs: Needs::Blixard,
    run,
};

const SOCKET: &str = "/run/blixard/blixardd.sock";
/// How long a connection may say nothing, and a busy machine take to notice.
const IDLE_LIMIT: Duration = Duration::from_mins(2);
/// What all of it may cost: an idle connection is some kilobytes of the daemon's memory.
const MEMORY_KIB: u64 = 64 * 1024;
const IDLE: usize = 1000;
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A flake whose build says a lot: 20 MB, which nobody reads.
const CHATTY: &str = r#"{
  outputs = { self }: {
    microvms.chatty = derivation {
      name = "microvm-chatty";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-euc" "/usr/bin/yes 'a line that nobody reads, and that is as long as lines of builds are' | /usr/bin/head -n 250000; exit 1" ];
    } // { blixard = { schema = 1; resources = { vcpus = 1; memoryMib = 16; }; }; };
  };
}
"#;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let sleeper = fixture::prepare(host, Fixture::Sleepers(1))?;
    host.run_ok(&["blixard", "deploy", &sleeper])?;
    let before = Standing::of(host)?;
    let daemon = main_process(host)?;
    let at_rest = memory_kib(host, &daemon)?;

    noise(host).context("noise")?;
    before.is_kept(host).context("after noise")?;
    idle_connections(host).context("idle connections")?;
    before.is_kept(host).context("after idle connections")?;
    a_caller_who_never_reads(host).context("a caller who never reads")?;
    before.is_kept(host).context("after a caller who never reads")?;

    ensure!(main_process(host)? == daemon, "the daemon was started again");
    let at_end = memory_kib(host, &daemon)?;
    report(at_rest, at_end);
    ensure!(
        at_end < at_rest + MEMORY_KIB,
        "the daemon had {at_rest} KiB and has {at_end} KiB: more than {MEMORY_KIB} KiB were added"
    );
    Ok(())
}

#[allow(clippy::print_stdout, reason = "a figure for the developer at the terminal")]
fn report(at_rest: u64, at_end: u64) {
    println!("memory of the daemon: {at_rest} KiB at rest, {at_end} KiB after all of it");
}

/// Random bytes, half a beginning, and a beginning with random bytes behind it.
fn noise(host: &Host) -> anyhow::Result<()> {
    let socket = host.see(SOCKET)?;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut open = Vec::new();
    for round in 0..150 {
        let mut bytes = Vec::with_capacity(4096);
        match round % 3 {
            0 => {}
            1 => bytes.extend_from_slice(BEGINNING.get(..round % BEGINNING.len()).unwrap_or_default()),
            _ => bytes.extend_from_slice(BEGINNING),
        }
        if round % 3 != 1 {
            bytes.resize_with(4096, || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_le_bytes().first().copied().unwrap_or_default()
            });
        }
        let mut stream = connect(&socket)?;
        // The daemon may hang up at any byte.
        let _ = stream.write_all(&bytes);
        open.push(stream);
    }
    served(host)?;
    open.into_iter().try_for_each(|stream| is_closed(stream, "a connection that makes no sense"))
}

fn idle_connections(host: &Host) -> anyhow::Result<()> {
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: Some(8192),
            ..rustix::process::getrlimit(rustix::process::Resource::Nofile)
        },
    )?;
    let socket = host.see(SOCKET)?;
    let open: Vec<UnixStream> = (0..IDLE).map(|_| connect(&socket)).collect::<anyhow::Result<_>>()?;
    served(host)?;
    let daemon = main_process(host)?;
    let files = host.shell(&format!("ls /proc/{daemon}/fd | wc -l"))?;
    ensure!(files.trim().parse::<usize>()? < 2 * IDLE, "the daemon has {files} files open");
    open.into_iter().try_for_each(|stream| is_closed(stream, "an idle connection"))?;
    served(host)
}

/// The command line's own output is not read, so it stops reading what the daemon says.
fn a_caller_who_never_reads(host: &Host) -> anyhow::Result<()> {
    host.write("/root/chatty/flake.nix", CHATTY, 0o644)?;
    let daemon = main_process(host)?;
    let before = memory_kib(host, &daemon)?;
    let deaf = "mkfifo -m 600 /root/deaf; sleep infinity < /root/deaf & reader=$!; \
        blixard deploy -L /root/chatty 2> /root/deaf & echo $! $reader";
    let processes = host.shell(&format!("{{ {deaf}; }} 2>/dev/null </dev/null | head -n 1"))?;
    wait::until("the build that nobody reads to run", IDLE_LIMIT, || {
        let log = host.shell("ls /nix/var/log/nix/drvs/*/*chatty.drv* 2>/dev/null || true")?;
        Ok(if log.is_empty() { Seen::Instead("no log of it".to_owned()) } else { Seen::Done(()) })
    })?;
    (0..20).try_for_each(|_| served(host))?;
    let during = memory_kib(host, &daemon)?;
    ensure!(during < before + MEMORY_KIB, "what nobody reads is kept: {before} KiB before, {during} KiB now");
    served(host)?;
    // The build waits for its reader, and ends with it.
    host.shell(&format!("kill {}; rm /root/deaf", processes.trim()))?;
    wait::until("the build that nobody waits for to end", IDLE_LIMIT, || {
        let builds = host.shell("pgrep -x yes || true")?;
        Ok(if builds.is_empty() { Seen::Done(()) } else { Seen::Instead(builds) })
    })?;
    served(host)
}

/// Others are served meanwhile.
fn served(host: &Host) -> anyhow::Result<()> {
    let list = host.run_ok(&["blixard", "vm", "list"])?;
    ensure!(list.contains("healthy"), "others see something else: {list}");
    Ok(())
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))
}

/// Waits until the daemon has hung up.
fn is_closed(mut stream: UnixStream, what: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(IDLE_LIMIT))?;
    let mut said = [0; 4096];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                anyhow::bail!("{what} stays open for more than {} s", IDLE_LIMIT.as_secs())
            }
            // Hung up with bytes unread.
            Err(_) => return Ok(()),
        }
    }
}

fn main_process(host: &Host) -> anyhow::Result<String> {
    let process = host.run_ok(&["systemctl", "show", "--value", "--property=MainPID", "blixardd.service"])?;
    Ok(process.trim().to_owned())
}

fn memory_kib(host: &Host, process: &str) -> anyhow::Result<u64> {
    let status = host.run_ok(&["cat", &format!("/proc/{process}/status")])?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
