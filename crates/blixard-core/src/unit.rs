//! What systemd is told: the transient unit that runs one generation of a vm.

use std::collections::BTreeMap;

use blixard_types::holder::{ENV_LEASE, EPOCHS_DIR, LeaseName, StartUnder};
use blixard_types::spec::{Account, Interface, InterfaceKind, KvmUse, OnPartition, VmKind};
use blixard_types::unit::{
    DRAIN_UNIT, LEASE_UNIT, RunUnitName, StopUnitName, tenant_keep_slice, tenant_slice,
};
use blixard_types::{Epoch, Spec, VmId, VolumeName};

use crate::assignment::RunIntent;
use crate::ports::networks::Tap;
use crate::ports::units::{
    Credential, GracefulStop, ObservedUnit, Readiness, RestartPolicy, TransientUnit, UnitState,
};
use crate::volume::shared_paths;

/// The environment variable that names the vm, `tenant/name`.
pub const ENV_VM: &str = "BLIXARD_VM";
/// The environment variable with the generation that runs.
pub const ENV_GENERATION: &str = "BLIXARD_GENERATION";
/// The environment variable with the placement's epoch.
pub const ENV_EPOCH: &str = "BLIXARD_EPOCH";
/// The environment variable with the directory for sockets; empty at each start.
pub const ENV_RUNTIME_DIR: &str = "BLIXARD_RUNTIME_DIR";
/// The environment variable with the directory for what outlives a start.
pub const ENV_STATE_DIR: &str = "BLIXARD_STATE_DIR";
/// The environment variable with the directory of the vm's secrets; absent if it has none.
pub const ENV_CREDENTIALS_DIR: &str = "BLIXARD_CREDENTIALS_DIR";

/// Where a runner finds the vm's secrets: one path for all vms, which each sees its own at, so that it can be written into
/// a runner when that is built.
pub const CREDENTIALS_DIR: &str = "/run/blixard-credentials";

/// The environment variable with the program that asks the guest to shut down; absent if none does.
pub const ENV_SHUTDOWN: &str = "BLIXARD_SHUTDOWN";
/// The environment variable that says how long that may take, in milliseconds.
pub const ENV_STOP_TIMEOUT: &str = "BLIXARD_STOP_TIMEOUT_MS";
/// The environment variable with the account that the unit runs under, `user:group`; absent if it is root.
pub const ENV_ACCOUNT: &str = "BLIXARD_ACCOUNT";
/// The environment variable of a unit that goes on in a partition.
pub const ENV_KEPT: &str = "BLIXARD_KEPT";
/// The environment variable that tells the shutdown program the hypervisor's process.
pub const ENV_MAIN_PID: &str = "MAINPID";
/// What the names of all of our variables begin with.
pub const ENV_PREFIX: &str = "BLIXARD_";

/// The runner's program that asks the guest to shut down, below its store path.
pub const SHUTDOWN_PROGRAM: &str = "bin/microvm-shutdown";
/// The runner's program, below its store path.
pub const RUN_PROGRAM: &str = "bin/microvm-run";

/// How long a stop may take where no lease says it. A stop is a SIGKILL; what takes time is the kernel
/// freeing the guest's memory, about 0.2 s per GiB.
const STOP_TIMEOUT_MS: u64 = 20_000;
/// How long systemd may take to execute a runner that does not notify.
const EXEC_TIMEOUT_MS: u64 = 90_000;
/// Threads and processes of a hypervisor: some per vcpu and per disk, and QEMU's pool of 64.
const TASKS_MAX: u64 = 1024;

/// Where a host keeps what belongs to vms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLayout {
    /// What outlives a start, absolute.
    pub state_dir: String,
    /// What does not, absolute, below `/run`, and not below the daemon's own directory there.
    pub runtime_dir: String,
    /// The bridge that taps are put on whose interface names none.
    pub bridge: Option<String>,
    /// The program `blixard-lease`, absolute: it executes every vm's program, if that may still start.
    pub lease_program: String,
    /// Where the epochs are written that are over, absolute. It outlives the daemon, and no boot.
    pub epochs_dir: String,
    /// Where the shared volumes are that this host has.
    pub shared: BTreeMap<VolumeName, String>,
    /// Where secrets of vms are, absolute: a folder each tenant.
    pub credentials_dir: String,
}

/// The lease that a unit is started under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitLease {
    /// Which.
    pub name: LeaseName,
    /// G: how long the kernel may take to end everything once it is over, in milliseconds.
    pub grace_ms: u64,
}

impl Default for HostLayout {
    fn default() -> Self {
        let (state_dir, runtime_dir) = ("/var/lib/blixard".to_owned(), "/run/blixard-vms".to_owned());
        let lease_program = "/usr/local/bin/blixard-lease".to_owned();
        Self {
            state_dir,
            runtime_dir,
            bridge: None,
            lease_program,
            epochs_dir: EPOCHS_DIR.to_owned(),
            shared: BTreeMap::new(),
            credentials_dir: "/etc/blixard/credentials".to_owned(),
        }
    }
}

impl HostLayout {
    /// The directory of the directories that vms' runners are started in: a folder each tenant.
    pub fn vms_dir(&self) -> String {
        format!("{}/vms", self.state_dir)
    }

    /// The directory a vm's runner is started in.
    pub fn vm_state_dir(&self, vm: &VmId) -> String {
        format!("{}/{}/{}", self.vms_dir(), vm.tenant(), vm.name())
    }

    /// The file with the newest epoch of a vm that is over.
    pub fn epoch_mark(&self, vm: &VmId) -> String {
        format!("{}/{}", self.epochs_dir, RunUnitName::of(vm))
    }

    /// The directory for a vm's sockets.
    pub fn vm_runtime_dir(&self, vm: &VmId) -> String {
        format!("{}/{}/{}", self.runtime_dir, vm.tenant(), vm.name())
    }

    /// The secrets of a vm. They are its tenant's: no spec names one of another.
    fn credentials(&self, vm: &VmId, spec: &Spec) -> Vec<Credential> {
        let file = |source: &String| format!("{}/{}/{source}", self.credentials_dir, vm.tenant());
        let credential =
            |(name, source): (&String, &String)| Credential { name: name.clone(), file: file(source) };
        spec.credentials.iter().map(credential).collect()
    }
}

/// The unit that runs this generation at this epoch, under the lease that this host holds. What is kept in
/// a partition needs none.
#[must_use]
pub fn run_unit(
    vm: &VmId,
    epoch: Epoch,
    run: &RunIntent,
    layout: &HostLayout,
    lease: Option<&UnitLease>,
) -> TransientUnit {
    let spec = &run.spec;
    let kept = spec.placement.on_partition == OnPartition::Keep;
    let lease = lease.filter(|_| !kept);
    let (working_directory, runtime_directory) = (layout.vm_state_dir(vm), layout.vm_runtime_dir(vm));
    TransientUnit {
        name: RunUnitName::of(vm),
        description: format!("Blixard microVM {vm}, generation {}", run.generation),
        slice: slice(vm, kept),
        account: spec.account.clone(),
        argv: argv(vm, epoch, run, layout, lease),
        environment: environment(vm, epoch, run, layout, lease),
        working_directory,
        runtime_directory,
        readiness: if spec.notify { Readiness::Notified } else { Readiness::Executed },
        start_timeout_ms: if spec.notify { spec.health.deadline_ms } else { EXEC_TIMEOUT_MS },
        stop_timeout_ms: lease.map_or(STOP_TIMEOUT_MS, |lease| lease.grace_ms),
        restart: restart(spec, lease.is_some()),
        memory_max: (spec.resources.memory_mib + spec.resources.overhead_mib) << 20,
        tasks_max: TASKS_MAX,
        devices: devices(spec).into_iter().chain(shared_devices(run, layout)).collect(),
        writable: shared_paths(run, layout),
        credentials: layout.credentials(vm, spec),
        bound_to: lease.map(|_| LEASE_UNIT),
        before: DRAIN_UNIT,
    }
}

fn slice(vm: &VmId, kept: bool) -> String {
    if kept { tenant_keep_slice(vm.tenant()) } else { tenant_slice(vm.tenant()) }
}

/// The runner is executed by a program that looks whether it may still start: a start may be carried out long
/// after it was decided, when its epoch was ended, or its lease. It looks in the unit that is stopped with the
/// epoch, and in the cgroup that is killed with the lease.
fn argv(
    vm: &VmId,
    epoch: Epoch,
    run: &RunIntent,
    layout: &HostLayout,
    lease: Option<&UnitLease>,
) -> Vec<String> {
    let kept = run.spec.placement.on_partition == OnPartition::Keep;
    let under = match lease {
        _ if kept => StartUnder::Kept,
        Some(lease) => StartUnder::Lease(lease.name.clone()),
        None => StartUnder::Alone,
    };
    let runner = format!("{}/{RUN_PROGRAM}", run.closure.root);
    let guard = [layout.lease_program.clone(), "run".to_owned(), under.to_string()];
    guard.into_iter().chain([layout.epoch_mark(vm), epoch.to_string(), runner]).collect()
}

/// What a unit records of itself: enough to adopt it, and to stop it as its own generation wants to be
/// stopped, whatever is known of the vm by then.
fn environment(
    vm: &VmId,
    epoch: Epoch,
    run: &RunIntent,
    layout: &HostLayout,
    lease: Option<&UnitLease>,
) -> BTreeMap<String, String> {
    let mut variables = vec![
        (ENV_VM, vm.to_string()),
        (ENV_GENERATION, run.generation.to_string()),
        (ENV_EPOCH, epoch.to_string()),
        (ENV_RUNTIME_DIR, layout.vm_runtime_dir(vm)),
        (ENV_STATE_DIR, layout.vm_state_dir(vm)),
    ];
    if !run.spec.credentials.is_empty() {
        variables.push((ENV_CREDENTIALS_DIR, CREDENTIALS_DIR.to_owned()));
    }
    if let Some(lease) = lease {
        variables.push((ENV_LEASE, lease.name.0.clone()));
    }
    if run.spec.placement.on_partition == OnPartition::Keep {
        variables.push((ENV_KEPT, "1".to_owned()));
    }
    if let Some(Account { user, group }) = &run.spec.account {
        variables.push((ENV_ACCOUNT, format!("{user}:{group}")));
    }
    if run.spec.can_shutdown {
        variables.push((ENV_SHUTDOWN, format!("{}/{SHUTDOWN_PROGRAM}", run.closure.root)));
        variables.push((ENV_STOP_TIMEOUT, run.spec.stop_timeout_ms.to_string()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How the guest of a unit is asked to shut down; `None` where nothing runs or nothing can ask it.
#[must_use]
pub fn graceful_stop(unit: &ObservedUnit) -> Option<GracefulStop> {
    if !matches!(unit.state, UnitState::Active | UnitState::Activating) {
        return None;
    }
    let told = |name: &str| unit.environment.get(name).cloned();
    let main_pid = unit.main_pid?;
    let mut environment = unit.environment.clone();
    environment.insert(ENV_MAIN_PID.to_owned(), main_pid.to_string());
    Some(GracefulStop {
        run: RunUnitName::of(&unit.vm),
        name: StopUnitName::of(&unit.vm),
        slice: slice(&unit.vm, unit.environment.contains_key(ENV_KEPT)),
        account: told(ENV_ACCOUNT).map(account).transpose().ok()?,
        program: told(ENV_SHUTDOWN)?,
        working_directory: told(ENV_STATE_DIR)?,
        runtime_directory: told(ENV_RUNTIME_DIR)?,
        environment,
        main_pid,
        timeout_ms: told(ENV_STOP_TIMEOUT)?.parse().ok()?,
    })
}

/// An account as [`environment`] writes it.
fn account(text: String) -> Result<Account, String> {
    match text.split_once(':') {
        Some((user, group)) => Ok(Account { user: user.to_owned(), group: group.to_owned() }),
        None => Err(text),
    }
}

/// The taps that the runner of a spec opens, on the host's bridge unless they name another.
#[must_use]
pub fn taps(spec: &Spec, bridge: Option<&str>) -> Vec<Tap> {
    let tap = |interface: &Interface| Tap {
        id: interface.id.clone(),
        account: spec.account.clone(),
        multi_queue: interface.multi_queue,
        bridge: interface.bridge.clone().or_else(|| bridge.map(str::to_owned)),
    };
    spec.interfaces.iter().filter(|interface| interface.kind == InterfaceKind::Tap).map(tap).collect()
}

/// Least pause before a restart under a lease: what the lease's end has killed is not to come back before
/// systemd has stopped its unit.
const LEASED_DELAY_MS: u64 = 1000;

fn restart(spec: &Spec, leased: bool) -> RestartPolicy {
    match spec.kind {
        VmKind::Service => RestartPolicy::Always {
            delay_ms: spec.restart.delay_ms.max(if leased { LEASED_DELAY_MS } else { 0 }),
            burst: spec.restart.burst,
            within_ms: spec.restart.within_ms,
        },
        VmKind::Task => RestartPolicy::Never,
    }
}

/// The shared volumes that are devices.
fn shared_devices(run: &RunIntent, layout: &HostLayout) -> Vec<String> {
    shared_paths(run, layout).into_iter().filter(|path| path.starts_with("/dev/")).collect()
}

fn devices(spec: &Spec) -> Vec<String> {
    let on_host = |kind| matches!(kind, InterfaceKind::Tap | InterfaceKind::Macvtap);
    let networked = spec.interfaces.iter().any(|interface| on_host(interface.kind));
    let wanted = [
        (spec.kvm != KvmUse::Unused, "/dev/kvm"),
        (networked, "/dev/net/tun"),
        (networked, "/dev/vhost-net"),
        (spec.vsock_cid.is_some(), "/dev/vhost-vsock"),
    ];
    wanted.iter().filter(|(needed, _)| *needed).map(|(_, device)| (*device).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use blixard_types::{GenerationNumber, Manifest, PathRecord, Sha256Hash, StorePath};

    use super::*;

    fn intent(spec: Spec) -> RunIntent {
        let root: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-runner".parse().unwrap();
        let nar_hash = Sha256Hash::of(b"runner");
        let record = PathRecord { path: root.clone(), nar_hash, nar_size: 1, references: [].into() };
        let closure = Manifest::new(root, vec![record]).unwrap().closure_ref().unwrap();
        RunIntent { generation: GenerationNumber(3), closure, spec, sources: vec![], volumes: [].into() }
    }

    #[test]
    fn a_vm_runs_in_its_tenants_slice_with_its_placement_recorded() {
        let unit = run_unit(
            &"a-b/web".parse().unwrap(),
            Epoch(2),
            &intent(Spec::minimal(1, 128)),
            &HostLayout::default(),
            None,
        );
        insta::assert_debug_snapshot!(unit, @r#"
        TransientUnit {
            name: RunUnitName(
                "blixard-vm-a\\x2db-web-run.service",
            ),
            description: "Blixard microVM a-b/web, generation 3",
            slice: "blixard-a\\x2db.slice",
            account: None,
            argv: [
                "/usr/local/bin/blixard-lease",
                "run",
                "alone",
                "/run/blixard-epochs/blixard-vm-a\\x2db-web-run.service",
                "2",
                "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-runner/bin/microvm-run",
            ],
            environment: {
                "BLIXARD_EPOCH": "2",
                "BLIXARD_GENERATION": "3",
                "BLIXARD_RUNTIME_DIR": "/run/blixard-vms/a-b/web",
                "BLIXARD_STATE_DIR": "/var/lib/blixard/vms/a-b/web",
                "BLIXARD_VM": "a-b/web",
            },
            working_directory: "/var/lib/blixard/vms/a-b/web",
            runtime_directory: "/run/blixard-vms/a-b/web",
            readiness: Executed,
            start_timeout_ms: 90000,
            stop_timeout_ms: 20000,
            restart: Always {
                delay_ms: 1000,
                burst: 5,
                within_ms: 120000,
            },
            memory_max: 402653184,
            tasks_max: 1024,
            devices: [
                "/dev/kvm",
            ],
            writable: [],
            credentials: [],
            bound_to: None,
            before: "blixard-drain.service",
        }
        "#);
    }

    #[test]
    fn the_secrets_of_a_vm_are_its_tenants_and_it_is_told_where_it_finds_them() {
        let mut spec = Spec::minimal(1, 128);
        spec.credentials = [("key".to_owned(), "web/key".to_owned())].into();
        let unit =
            run_unit(&"shop/web".parse().unwrap(), Epoch(1), &intent(spec), &HostLayout::default(), None);
        let file = "/etc/blixard/credentials/shop/web/key".to_owned();
        assert_eq!(unit.credentials, [Credential { name: "key".to_owned(), file }]);
        assert_eq!(unit.environment.get(ENV_CREDENTIALS_DIR).unwrap(), "/run/blixard-credentials");
    }

    #[test]
    fn a_vm_that_stops_in_a_partition_runs_under_its_lease_and_one_that_is_kept_under_none() {
        let (vm, layout): (VmId, _) = ("web".parse().unwrap(), HostLayout::default());
        let lease = UnitLease { name: LeaseName("7-1".to_owned()), grace_ms: 1000 };
        let mut spec = Spec::minimal(1, 128);
        let unit = run_unit(&vm, Epoch(1), &intent(spec.clone()), &layout, Some(&lease));
        let runner = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-runner/bin/microvm-run";
        let mark = "/run/blixard-epochs/blixard-vm-default-web-run.service";
        let guard = "/usr/local/bin/blixard-lease";
        assert_eq!(unit.argv, [guard, "run", "lease=7-1", mark, "1", runner]);
        assert_eq!(unit.environment.get(ENV_LEASE).unwrap(), "7-1");
        assert_eq!((unit.bound_to, unit.stop_timeout_ms), (Some("blixard-lease.service"), 1000));
        spec.placement.on_partition = OnPartition::Keep;
        let kept = run_unit(&vm, Epoch(1), &intent(spec), &layout, Some(&lease));
        assert_eq!(kept.argv, [guard, "run", "kept", mark, "1", runner]);
        assert_eq!(kept.bound_to, None);
        assert!(kept.environment.contains_key(ENV_KEPT) && !kept.environment.contains_key(ENV_LEASE));
    }

    #[test]
    fn a_unit_says_by_itself_how_its_guest_is_asked_to_shut_down() {
        let mut spec = Spec::minimal(1, 128);
        (spec.can_shutdown, spec.stop_timeout_ms) = (true, 7000);
        let (vm, layout): (VmId, _) = ("a-b/web".parse().unwrap(), HostLayout::default());
        let unit = run_unit(&vm, Epoch(2), &intent(spec.clone()), &layout, None);
        let observed = |unit: TransientUnit| ObservedUnit {
            vm: vm.clone(),
            epoch: Some(Epoch(2)),
            generation: Some(GenerationNumber(3)),
            state: UnitState::Active,
            restarts: 0,
            main_pid: Some(41),
            environment: unit.environment,
        };
        let ask = graceful_stop(&observed(unit.clone())).unwrap();
        assert_eq!(ask.program, "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-runner/bin/microvm-shutdown");
        assert_eq!((ask.run, ask.name.as_str()), (unit.name, r"blixard-vm-a\x2db-web-stop.service"));
        assert_eq!((ask.slice, ask.timeout_ms, ask.main_pid), (unit.slice, 7000, 41));
        assert_eq!(ask.working_directory, unit.working_directory);
        assert_eq!(ask.runtime_directory, unit.runtime_directory);
        let mut expected = unit.environment;
        expected.insert("MAINPID".to_owned(), "41".to_owned());
        assert_eq!(ask.environment, expected);
        spec.can_shutdown = false;
        assert_eq!(graceful_stop(&observed(run_unit(&vm, Epoch(2), &intent(spec), &layout, None))), None);
    }

    #[test]
    fn a_unit_says_by_itself_under_which_account_its_guest_is_asked() {
        let mut spec = Spec::minimal(1, 128);
        let account = Account { user: "microvm".to_owned(), group: "kvm".to_owned() };
        (spec.can_shutdown, spec.account) = (true, Some(account.clone()));
        let vm: VmId = "web".parse().unwrap();
        let unit = run_unit(&vm, Epoch(2), &intent(spec), &HostLayout::default(), None);
        assert_eq!(unit.account, Some(account.clone()));
        let mut observed = ObservedUnit {
            vm,
            epoch: Some(Epoch(2)),
            generation: Some(GenerationNumber(3)),
            state: UnitState::Active,
            restarts: 0,
            main_pid: Some(41),
            environment: unit.environment,
        };
        assert_eq!(graceful_stop(&observed).unwrap().account, Some(account));
        // Rather not asked than asked as root.
        observed.environment.insert(ENV_ACCOUNT.to_owned(), "nonsense".to_owned());
        assert_eq!(graceful_stop(&observed), None);
    }

    #[test]
    fn taps_are_put_on_their_own_bridge_or_the_hosts_and_belong_to_the_account() {
        let mut spec = Spec::minimal(2, 128);
        spec.account = Some(Account { user: "microvm".to_owned(), group: "kvm".to_owned() });
        let interface = |kind, id: &str, bridge: Option<&str>| Interface {
            kind,
            id: id.to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            bridge: bridge.map(str::to_owned),
            multi_queue: true,
        };
        spec.interfaces = vec![
            interface(InterfaceKind::Tap, "vm-a", None),
            interface(InterfaceKind::User, "qemu", None),
            interface(InterfaceKind::Tap, "vm-b", Some("br1")),
        ];
        let tap = |id: &str, bridge: Option<&str>| Tap {
            id: id.to_owned(),
            account: spec.account.clone(),
            multi_queue: true,
            bridge: bridge.map(str::to_owned),
        };
        assert_eq!(taps(&spec, Some("br0")), [tap("vm-a", Some("br0")), tap("vm-b", Some("br1"))]);
        assert_eq!(taps(&spec, None), [tap("vm-a", None), tap("vm-b", Some("br1"))]);
    }

    #[test]
    fn a_vm_that_is_kept_in_a_partition_is_not_below_the_slice_that_the_fence_kills() {
        let mut spec = Spec::minimal(1, 128);
        spec.placement.on_partition = OnPartition::Keep;
        let unit = run_unit(&"web".parse().unwrap(), Epoch(1), &intent(spec), &HostLayout::default(), None);
        assert_eq!(unit.slice, "blixardkeep-default.slice");
    }

    #[test]
    fn the_runtime_directory_of_a_vm_outlives_the_daemons_own() {
        let layout = HostLayout::default();
        assert!(!layout.vm_runtime_dir(&"web".parse().unwrap()).starts_with("/run/blixard/"));
    }
}
