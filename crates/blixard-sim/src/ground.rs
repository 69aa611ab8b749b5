//! The machine under a simulated node: what a daemon finds there, and leaves behind.
//!
//! Owns: what outlives a daemon (units, the holder of leases, epochs that are over, interfaces), what outlives a boot,
//! too (volumes, the store), and the clock, which is off by less than 1 %. PID 1 does what it is asked a while later,
//! whatever has become of who asked; the holder's kill takes its time within the grace. Driven from outside of all daemons.

mod closures;
mod holder;
mod systemd;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::ports::units::{ObservedUnit, UnitManager as _, UnitState};
use blixard_core::ports::{BootMillis, Clock, RawMillis, UnixMillis};
use blixard_core::unit::{ENV_KEPT, HostLayout};
use blixard_testkit::fake::holder::FakeHolder;
use blixard_testkit::fake::networks::FakeNetworks;
use blixard_testkit::fake::nix::FakeNix;
use blixard_testkit::fake::units::FakeUnits;
use blixard_testkit::fake::volumes::FakeVolumes;
use blixard_types::holder::ENV_LEASE;
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, VmId};
use futures_util::FutureExt as _;
use tempfile::TempDir;

use crate::dice::Dice;
use crate::shape::BrokenRule;
pub(crate) use closures::Closures;
pub(crate) use holder::Holder;
use systemd::Job;
pub(crate) use systemd::Systemd;

/// When simulated time begins.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long a machine takes to come up, so that no clock begins with nothing.
const UP_MS: u64 = 10_000;
/// The most that a clock is off, in parts of a million: less than the 1 % that leases allow for.
const OFF_PPM: u64 = 9_000;
/// How long a kill of what the lease allowed may take: within the grace of fast leases.
const KILL_TAKES_MS: u64 = 400;

/// The time of the simulation, for whoever is in a node and for who drives all of them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Now(Arc<AtomicU64>);

impl Now {
    /// Tells those outside of nodes.
    pub(crate) fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| Duration::from_micros(self.0.load(Ordering::Relaxed)))
    }
}

/// The clocks of a machine since it was booted.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock {
    now: Now,
    booted: Duration,
    /// Of a million that pass, as many it counts.
    per_million: u64,
    ahead_ms: u64,
}

impl MachineClock {
    fn counted(&self) -> u64 {
        let passed = self.now.get().saturating_sub(self.booted);
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        UP_MS + micros.saturating_mul(self.per_million) / 1_000_000_000
    }
}

impl Clock for MachineClock {
    fn wall(&self) -> UnixMillis {
        let elapsed = u64::try_from(self.now.get().as_millis()).unwrap_or(u64::MAX);
        UnixMillis(EPOCH_MS + self.ahead_ms + elapsed)
    }

    fn boot(&self) -> BootMillis {
        BootMillis(self.counted())
    }

    fn raw(&self) -> RawMillis {
        RawMillis(self.counted())
    }
}

/// A vm's program has been executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) vm: VmId,
    pub(crate) epoch: Epoch,
    pub(crate) generation: GenerationNumber,
}

/// A machine; clones are the same one.
#[derive(Clone)]
pub(crate) struct Ground(Arc<Inner>);

struct Inner {
    now: Now,
    dice: Dice,
    nix: FakeNix,
    volumes: FakeVolumes,
    folder: TempDir,
    state: Mutex<State>,
}

/// What a boot begins anew.
struct State {
    boots: u64,
    broken: Option<BrokenRule>,
    clock: MachineClock,
    units: FakeUnits,
    holder: FakeHolder,
    networks: FakeNetworks,
    jobs: Vec<Job>,
    /// When the kill is done that the end of a lease has begun.
    killed_at: Option<Duration>,
}

impl State {
    fn booted(boots: u64, clock: MachineClock, broken: Option<BrokenRule>) -> Self {
        Self {
            boots,
            broken,
            units: FakeUnits::new(),
            holder: FakeHolder::new(Arc::new(clock.clone())),
            networks: FakeNetworks::default(),
            clock,
            jobs: Vec::new(),
            killed_at: None,
        }
    }

    fn observed(&self) -> Vec<ObservedUnit> {
        self.units.observe().now_or_never().and_then(Result::ok).unwrap_or_default()
    }

    /// Whether something runs under a lease that is not held any more.
    fn has_lapsed(&self) -> bool {
        if self.broken == Some(BrokenRule::OutlivesItsLease) {
            return false;
        }
        let held = self.holder.held();
        let over = |lease: &String| held.as_ref().is_none_or(|(name, _)| name.0 != *lease);
        self.observed().iter().any(|unit| unit.environment.get(ENV_LEASE).is_some_and(over))
    }

    fn is_killing(&self) -> bool {
        self.killed_at.is_some() || self.has_lapsed()
    }

    /// Kills the cgroup of all that may stop; systemd then stops their units, which are bound to the holder's.
    fn kill(&self) {
        for unit in self.observed().iter().filter(|unit| !unit.environment.contains_key(ENV_KEPT)) {
            drop(self.units.stop(RunUnitName::of(&unit.vm)).now_or_never());
        }
    }
}

impl Ground {
    /// A machine that is up.
    pub(crate) fn new(now: Now, dice: Dice, broken: Option<BrokenRule>) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let clock = MachineClock {
            now: now.clone(),
            booted: now.get(),
            per_million: 1_000_000 - OFF_PPM + dice.below(2 * OFF_PPM),
            ahead_ms: dice.below(300),
        };
        let state = Mutex::new(State::booted(1, clock, broken));
        let (nix, volumes) = (FakeNix::default(), FakeVolumes::default());
        Ok(Self(Arc::new(Inner { now, dice, nix, volumes, folder, state })))
    }

    /// The power goes, and comes back: nothing runs, and nobody knows what did.
    pub(crate) fn reboot(&self) {
        let mut state = self.state();
        let clock = MachineClock { booted: self.0.now.get(), ..state.clock.clone() };
        *state = State::booted(state.boots + 1, clock, state.broken);
        // A folder that was never made is as empty.
        drop(std::fs::remove_dir_all(self.epochs()));
    }

    /// PID 1 does what is due, and the holder of leases what it is there for. Gives what was executed.
    pub(crate) fn step(&self) -> Vec<Executed> {
        let now = self.0.now.get();
        let executed = self.work_off(now);
        let mut state = self.state();
        match state.killed_at {
            None if state.has_lapsed() => {
                state.killed_at = Some(now + self.0.dice.millis(0, KILL_TAKES_MS));
            }
            Some(at) if at <= now => {
                state.kill();
                state.killed_at = None;
            }
            _ => {}
        }
        executed
    }

    /// The vms that run, and what of them.
    pub(crate) fn running(&self) -> Vec<Executed> {
        let executes = |unit: ObservedUnit| {
            let runs = matches!(unit.state, UnitState::Active | UnitState::Activating);
            let (epoch, generation) = unit.epoch.zip(unit.generation)?;
            runs.then_some(Executed { vm: unit.vm, epoch, generation })
        };
        self.state().observed().into_iter().filter_map(executes).collect()
    }

    /// The hypervisor of one of them exits.
    pub(crate) fn let_exit(&self, vm: &VmId) {
        self.state().units.exit(vm);
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.state().clock.clone())
    }

    pub(crate) fn networks(&self) -> FakeNetworks {
        self.state().networks.clone()
    }

    pub(crate) fn nix(&self) -> FakeNix {
        self.0.nix.clone()
    }

    pub(crate) fn volumes(&self) -> FakeVolumes {
        self.0.volumes.clone()
    }

    /// The kernel's id of this boot.
    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}", self.state().boots)
    }

    /// A folder that outlives a boot.
    pub(crate) fn folder(&self) -> PathBuf {
        self.0.folder.path().to_owned()
    }

    fn epochs(&self) -> PathBuf {
        self.0.folder.path().join("epochs")
    }

    /// Where its host agent keeps what belongs to vms.
    pub(crate) fn layout(&self) -> HostLayout {
        HostLayout {
            state_dir: self.0.folder.path().join("state").display().to_string(),
            epochs_dir: self.epochs().display().to_string(),
            ..HostLayout::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
