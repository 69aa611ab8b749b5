//! Two hosts that are far from each other: packets between them take their time.
//!
//! A device of the kind `tun` on each host, and between them a process of this machine that hands every
//! packet on when half of the round trip is over. It is not the kernel's `netem`, which many kernels lack.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use blixard_testkit::host::Host;

/// The source, by the slow way.
pub(super) const ADDRESS: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// Takes packets off one device and puts them on the other, later.
const PROGRAM: &str = r"
import collections, ctypes, fcntl, os, select, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def device(leader):
    space = os.open(f'/proc/{leader}/ns/net', os.O_RDONLY)
    if libc.setns(space, 0):
        raise OSError(ctypes.get_errno(), 'setns')
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', b'far0', 0x1001))
    return fd
a, b = device(sys.argv[1]), device(sys.argv[2])
delay = float(sys.argv[3])
print('ready', flush=True)
other, waiting = {a: b, b: a}, {a: collections.deque(), b: collections.deque()}
while True:
    now = time.monotonic()
    for queue_of, queue in waiting.items():
        while queue and queue[0][0] <= now:
            try:
                os.write(queue_of, queue.popleft()[1])
            except OSError:
                pass
    due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
    timeout = None if due is None else max(0, due - time.monotonic())
    for fd in select.select([a, b], [], [], timeout)[0]:
        try:
            while True:
                waiting[other[fd]].append((time.monotonic() + delay, os.read(fd, 65536)))
        except BlockingIOError:
            pass
";

/// The way between the hosts; it is gone when this is.
pub(super) struct Far {
    process: Child,
    round_trip_ms: u32,
}

impl Far {
    pub(super) fn between(source: &Host, target: &Host, round_trip_ms: u32) -> anyhow::Result<Self> {
        let half = f64::from(round_trip_ms) / 2000.0;
        let mut process = Command::new("python3")
            .args(["-c", PROGRAM])
            .args([leader(source)?, leader(target)?])
            .arg(half.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3 between the hosts")?;
        let mut said = String::new();
        let stdout = process.stdout.take().context("no pipe")?;
        let far = Self { process, round_trip_ms };
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said.trim() == "ready", "there is no way between the hosts");
        for (host, own) in [(source, ADDRESS), (target, OTHER)] {
            host.shell(&format!(
                "ip address add {own}/30 dev far0; ip link set far0 mtu 1500 txqueuelen 20000 up"
            ))?;
        }
        Ok(far)
    }

    /// Connecting takes a round trip; what is measured should have been that far away.
    pub(super) fn check(&self, target: &Host, port: u16) -> anyhow::Result<()> {
        let script = format!(
            "begun=$EPOCHREALTIME; exec 3<>/dev/tcp/{ADDRESS}/{port}; echo $(( ${{EPOCHREALTIME/./}} - ${{begun/./}} ))"
        );
        let took = target.shell(&script)?.trim().parse::<u64>()?;
        crate::step::say(&format!("a connection takes {took} µs"));
        ensure!(took >= u64::from(self.round_trip_ms) * 1000, "a connection took only {took} µs");
        Ok(())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first process of a host, as this machine numbers it.
pub(super) fn leader(host: &Host) -> anyhow::Result<String> {
    let root = host.see("/")?;
    let process = root.components().nth(2).context("no process")?;
    Ok(process.as_os_str().to_string_lossy().into_owned())
}
