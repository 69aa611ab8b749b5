//! The service manager: transient units, as data, and what is known of those that run.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::Account;
use blixard_types::unit::{RunUnitName, StopUnitName};
use blixard_types::{Epoch, GenerationNumber, VmId};

use super::{BoxFuture, BoxStream};

/// When systemd considers a unit started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as its program is executed (`Type=exec`).
    Executed,
    /// When its program says READY=1 (`Type=notify`, `NotifyAccess=all`).
    Notified,
}

/// Whether systemd starts the program again after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// On any exit, with a burst limit.
    Always {
        /// Pause before each start, in milliseconds.
        delay_ms: u64,
        /// Starts allowed within the window.
        burst: u32,
        /// The window, in milliseconds.
        within_ms: u64,
    },
    /// Never: it runs once, and how it has ended is seen until it is stopped.
    Never,
}

/// Everything that one transient service needs. The adapter adds nothing that is not written here,
/// except `CollectMode=`, `RemainAfterExit=` of what is never restarted, `KillMode=control-group` and `KillSignal=SIGKILL`:
/// stopping a unit is the fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientUnit {
    /// Its name.
    pub name: RunUnitName,
    /// What `systemctl status` shows.
    pub description: String,
    /// The slice it is in.
    pub slice: String,
    /// The account its program runs under; root if absent. Its directories are that one's too.
    pub account: Option<Account>,
    /// The program, absolute, and its arguments.
    pub argv: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The directory it is started in, absolute; the adapter makes it (mode 0700) if absent.
    pub working_directory: String,
    /// A directory for sockets, absolute, below `/run`; made anew for each start.
    pub runtime_directory: String,
    /// When it counts as started.
    pub readiness: Readiness,
    /// How long a start may take, in milliseconds.
    pub start_timeout_ms: u64,
    /// How long a stop may take, in milliseconds.
    pub stop_timeout_ms: u64,
    /// What happens after an exit.
    pub restart: RestartPolicy,
    /// `MemoryMax`, in bytes.
    pub memory_max: u64,
    /// `TasksMax`.
    pub tasks_max: u64,
    /// Devices it may open, read and write: `/dev/kvm`.
    pub devices: Vec<String>,
    /// Directories it may write to besides its own two.
    pub writable: Vec<String>,
    /// Secrets that it is handed, below the directory of [`crate::unit::CREDENTIALS_DIR`].
    pub credentials: Vec<Credential>,
    /// The unit without which it does not run, and after which it is started; stopped with it.
    pub bound_to: Option<&'static str>,
    /// The unit that is stopped before it is, when the machine goes down.
    pub before: &'static str,
}

/// A secret of a unit. Only the service manager reads it, when the unit starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name for the program.
    pub name: String,
    /// The file on this host, absolute; or, with `.cred` behind it, the file in which it is sealed to this host.
    pub file: String,
}

/// What a run unit of ours does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// systemd starts it, or waits before it starts it again.
    Activating,
    /// Its program runs.
    Active,
    /// It is being stopped.
    Deactivating,
    /// Its program was to run once, and has ended with status 0. Processes of it may be left.
    Completed,
    /// It has ended and systemd will not start it again.
    Ended {
        /// systemd's result: `success`, `exit-code`, `start-limit-hit` …
        result: String,
    },
}

/// A run unit of ours as the service manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedUnit {
    /// The vm, from the unit's name.
    pub vm: VmId,
    /// The placement it was started for, from its environment; `None` if that cannot be read.
    pub epoch: Option<Epoch>,
    /// The generation it runs, from its environment; `None` if that cannot be read.
    pub generation: Option<GenerationNumber>,
    /// What it does.
    pub state: UnitState,
    /// How often systemd has started it again.
    pub restarts: u32,
    /// The process id of the hypervisor, if it runs.
    pub main_pid: Option<u32>,
    /// What it was told when it was started: the variables of its environment that are ours.
    pub environment: BTreeMap<String, String>,
}

impl ObservedUnit {
    /// Whether its program runs, or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, UnitState::Activating | UnitState::Active)
    }
}

/// How the guest of a run unit is asked to shut down. The program runs as a unit of its own, as
/// confined as the hypervisor that it speaks to, and outlives the daemon that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulStop {
    /// The unit whose guest is asked.
    pub run: RunUnitName,
    /// The unit that asks.
    pub name: StopUnitName,
    /// The slice it is in.
    pub slice: String,
    /// The account it runs under: the run unit's.
    pub account: Option<Account>,
    /// The program, absolute.
    pub program: String,
    /// Its environment: that of the run unit, and `MAINPID`.
    pub environment: BTreeMap<String, String>,
    /// The directory it is started in: the run unit's.
    pub working_directory: String,
    /// The run unit's directory for sockets.
    pub runtime_directory: String,
    /// The process that should end.
    pub main_pid: u32,
    /// How long all of it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What asking a guest to shut down has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Its hypervisor has ended.
    Ended,
    /// Its hypervisor still runs.
    Runs {
        /// Why nobody waits for it any longer.
        reason: String,
    },
}

/// Something about a run unit may have changed: observe again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitChange {
    /// This vm's unit.
    Unit(VmId),
    /// Any unit: signals were lost, or the service manager was re-executed.
    Any,
}

/// What the name of a file ends with in which a secret is sealed; systemd-creds(1).
pub const SEALED: &str = ".cred";

/// Why a unit operation failed.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The service manager cannot be reached.
    #[error("cannot reach systemd over D-Bus: {reason}")]
    Unreachable {
        /// What D-Bus said.
        reason: String,
    },
    /// The service manager refused.
    #[error("systemd refused to {action} {unit}: {reason}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The unit.
        unit: String,
        /// What it said.
        reason: String,
    },
    /// The job ended without success.
    #[error("the job to {action} {unit} ended with `{result}`")]
    Job {
        /// What was asked.
        action: &'static str,
        /// The unit.
        unit: String,
        /// systemd's result: `failed`, `timeout`, `canceled`, `dependency` …
        result: String,
    },
    /// The account of the unit is not there.
    #[error("there is no {what} {name} on this host")]
    NoAccount {
        /// User or group.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A secret of the unit is not there.
    #[error(
        "this host has no credential {name}: put it into {file}, or sealed into {file}{SEALED} by \
         `systemd-creds encrypt --name={name}`"
    )]
    NoCredential {
        /// Its name.
        name: String,
        /// Where it is looked for.
        file: String,
    },
    /// A secret of the unit is there and cannot be had.
    #[error("the credential {name} cannot be handed over: {file} {problem}")]
    Credential {
        /// Its name.
        name: String,
        /// Its file.
        file: String,
        /// What is wrong with that.
        problem: String,
    },
    /// A directory of the unit could not be made.
    #[error("cannot make the directory {path}")]
    Directory {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

/// The service manager, as far as run units are concerned.
pub trait UnitManager: Send + Sync + 'static {
    /// Starts a transient unit and waits for its job. A unit of that name must not be loaded.
    fn start(&self, unit: TransientUnit) -> BoxFuture<'_, Result<(), UnitError>>;

    /// Stops a unit and waits for its job; one that is not loaded is no error. Returns only when the
    /// unit's cgroup is unpopulated, so that "stopped" is true of every process.
    fn stop(&self, unit: RunUnitName) -> BoxFuture<'_, Result<(), UnitError>>;

    /// Asks the guest of a run unit to shut down, and waits until its main process has ended, the
    /// asking has failed, or the time is over. Where a daemon before this one is asking already, its
    /// order counts. Nothing of the asking is left afterwards; the run unit is, and may be about to
    /// start again: stop it.
    fn shutdown(&self, order: GracefulStop) -> BoxFuture<'_, Result<Asked, UnitError>>;

    /// All run units of ours that are loaded.
    fn observe(&self) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>>;

    /// As [`Self::observe`], of these vms alone: one that has no unit loaded is not among them.
    fn look(&self, vms: BTreeSet<VmId>) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>>;

    /// Changes from now on. A slow reader loses details, never the fact: it gets [`UnitChange::Any`].
    fn changes(&self) -> BoxStream<'static, UnitChange>;
}
