//! Callers that write to a daemon over its socket, as fast as it answers, whatever happens to it.
//!
//! Each has a vm of its own. A write is a wish for it, with a request id that stays the same until the
//! write is acknowledged: so in the end the cluster has counted exactly as many wishes as were
//! acknowledged, or one was lost or applied twice. What there is to see is in a folder:
//!
//! | file | who writes it |
//! |---|---|
//! | `acknowledged` | this: how many there are so far; renewed all the time |
//! | `pause` | the scenario: nobody begins another write |
//! | `idle` | this: all writes that were begun are acknowledged, because of `pause` |
//! | `end` | the scenario: this ends, once all is acknowledged |
//! | `result` | this, at its end: a line for each vm, with its name, its count of wishes, and the last one |

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use blixard_proto::v1::vm_service_client::VmServiceClient;
use blixard_proto::v1::{Desired, GetVmRequest, SetDesiredRequest};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// A daemon that answers nothing for so long is asked again.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a refusal, and between looks at the folder.
const AGAIN: Duration = Duration::from_millis(20);
const SHOW_EVERY: Duration = Duration::from_millis(40);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The daemon's socket
    #[arg(long, default_value = "/run/blixard/blixardd.sock")]
    socket: PathBuf,
    /// Where to say what was acknowledged
    #[arg(long)]
    folder: PathBuf,
    /// Start and stop by turns, instead of stopping what is stopped
    #[arg(long)]
    toggle: bool,
    /// The vms, one for each writer
    vms: Vec<String>,
}

#[derive(Default)]
struct Seen {
    acknowledged: AtomicUsize,
    /// Writers that have begun a write.
    busy: AtomicUsize,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { socket, folder, toggle, vms } = arguments;
    fs::create_dir_all(&folder)?;
    let seen = Arc::new(Seen::default());
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect_lazy();
    let mut writers = JoinSet::new();
    for vm in vms {
        let writer = Writer {
            client: VmServiceClient::new(channel.clone()),
            vm,
            toggle,
            folder: folder.clone(),
            seen: Arc::clone(&seen),
        };
        writers.spawn(writer.run());
    }
    let mut lines = Vec::new();
    loop {
        tokio::select! {
            ended = writers.join_next() => match ended {
                Some(line) => lines.push(line??),
                None => break,
            },
            () = sleep(SHOW_EVERY) => show(&folder, &seen)?,
        }
    }
    show(&folder, &seen)?;
    replace(&folder.join("result"), &lines.concat())
}

fn show(folder: &Path, seen: &Seen) -> anyhow::Result<()> {
    let pausing = folder.join("pause").exists();
    let idle = pausing && seen.busy.load(Ordering::SeqCst) == 0;
    replace(&folder.join("acknowledged"), &seen.acknowledged.load(Ordering::SeqCst).to_string())?;
    if idle {
        replace(&folder.join("idle"), "")?;
    }
    Ok(())
}

/// Writes a file whole.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, path)?)
}

struct Writer {
    client: VmServiceClient<Channel>,
    vm: String,
    toggle: bool,
    folder: PathBuf,
    seen: Arc<Seen>,
}

impl Writer {
    async fn run(mut self) -> anyhow::Result<String> {
        let mut wishes = self.known().await;
        let mut wish = Desired::Unspecified;
        loop {
            if self.folder.join("end").exists() {
                return Ok(format!("{} {wishes} {}\n", self.vm, wish.as_str_name()));
            }
            // Counted first: who then sees no pause is seen by whoever waits for one.
            self.seen.busy.fetch_add(1, Ordering::SeqCst);
            if self.folder.join("pause").exists() {
                self.seen.busy.fetch_sub(1, Ordering::SeqCst);
                sleep(AGAIN).await;
                continue;
            }
            let start = self.toggle && wish == Desired::Stopped;
            wish = if start { Desired::Running } else { Desired::Stopped };
            self.write(wish).await?;
            wishes += 1;
            self.seen.acknowledged.fetch_add(1, Ordering::SeqCst);
            self.seen.busy.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// How many wishes there were before.
    async fn known(&mut self) -> u64 {
        loop {
            let vm = GetVmRequest { vm: self.vm.clone(), stale: false };
            if let Ok(Ok(vm)) = timeout(PATIENCE, self.client.get(vm)).await {
                return vm.into_inner().wishes;
            }
            sleep(AGAIN).await;
        }
    }

    /// Writes until it is acknowledged.
    async fn write(&mut self, wish: Desired) -> anyhow::Result<()> {
        let mut id = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut id)?;
        let request = SetDesiredRequest {
            request_id: id.to_vec().into(),
            vm: self.vm.clone(),
            desired: wish.into(),
            wait_ms: 0,
        };
        loop {
            if let Ok(Ok(_)) = timeout(PATIENCE, self.client.set_desired(request.clone())).await {
                return Ok(());
            }
            sleep(AGAIN).await;
        }
    }
}
