//! What systemd is told: the transient unit that runs one generation of a vm.

use std::collections::BTreeMap;

use blixard_types::spec::{Account, Interface, InterfaceKind, KvmUse, OnPartition, VmKind};
use blixard_types::unit::{RunUnitName, StopUnitName, tenant_keep_slice, tenant_slice};
use blixard_types::{Epoch, Spec, VmId};

use crate::assignment::RunIntent;
use crate::ports::networks::Tap;
use crate::ports::units::{GracefulStop, ObservedUnit, Readiness, RestartPolicy, TransientUnit, UnitState};

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

/// The environment variable with the program that asks the guest to shut down; absent if none does.
pub const ENV_SHUTDOWN: &str = "BLIXARD_SHUTDOWN";
/// The environment variable that says how long that may take, in milliseconds.
pub const ENV_STOP_TIMEOUT: &str = "BLIXARD_STOP_TIMEOUT_MS";
/// The environment variable with the account that the unit runs under, `user:group`; absent if it is root.
pub const ENV_ACCOUNT: &str = "BLIXARD_ACCOUNT";
/// The environment variable that tells the shutdown program the hypervisor's process.
pub const ENV_MAIN_PID: &str = "MAINPID";
/// What the names of all of our variables begin with.
pub const ENV_PREFIX: &str = "BLIXARD_";

/// The runner's program that asks the guest to shut down, below its store path.
pub const SHUTDOWN_PROGRAM: &str = "bin/microvm-shutdown";
/// The runner's program, below its store path.
pub const RUN_PROGRAM: &str = "bin/microvm-run";

/// How long a stop may take. A stop is a SIGKILL; what takes time is the kernel freeing the guest's
/// memory, about 0.2 s per GiB.
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
    /// What does not, absolute, below `/run`, and not below the daemon's own directory there, which
    /// systemd removes when the daemon stops.
    pub runtime_dir: String,
    /// The bridge that taps are put on whose interface names none.
    pub bridge: Option<String>,
}

impl Default for HostLayout {
    fn default() -> Self {
        let (state_dir, runtime_dir) = ("/var/lib/blixard".to_owned(), "/run/blixard-vms".to_owned());
        Self { state_dir, runtime_dir, bridge: None }
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

    /// The directory for a vm's sockets.
    pub fn vm_runtime_dir(&self, vm: &VmId) -> String {
        format!("{}/{}/{}", self.runtime_dir, vm.tenant(), vm.name())
    }
}

/// The unit that runs this generation at this epoch.
#[must_use]
pub fn run_unit(vm: &VmId, epoch: Epoch, run: &RunIntent, layout: &HostLayout) -> TransientUnit {
    let spec = &run.spec;
    let (working_directory, runtime_directory) = (layout.vm_state_dir(vm), layout.vm_runtime_dir(vm));
    TransientUnit {
        name: RunUnitName::of(vm),
        description: format!("Blixard microVM {vm}, generation {}", run.generation),
        slice: match spec.placement.on_partition {
            OnPartition::Stop => tenant_slice(vm.tenant()),
            OnPartition::Keep => tenant_keep_slice(vm.tenant()),
        },
        account: spec.account.clone(),
        argv: vec![format!("{}/{RUN_PROGRAM}", run.closure.root)],
        environment: environment(vm, epoch, run, layout),
        working_directory,
        runtime_directory,
        readiness: if spec.notify { Readiness::Notified } else { Readiness::Executed },
        start_timeout_ms: if spec.notify { spec.health.deadline_ms } else { EXEC_TIMEOUT_MS },
        stop_timeout_ms: STOP_TIMEOUT_MS,
        restart: restart(spec),
        memory_max: (spec.resources.memory_mib + spec.resources.overhead_mib) << 20,
        tasks_max: TASKS_MAX,
        devices: devices(spec),
        writable: Vec::new(),
    }
}

/// What a unit records of itself: enough to adopt it, and to stop it as its own generation wants to be
/// stopped, whatever is known of the vm by then.
fn environment(vm: &VmId, epoch: Epoch, run: &RunIntent, layout: &HostLayout) -> BTreeMap<String, String> {
    let mut variables = vec![
        (ENV_VM, vm.to_string()),
        (ENV_GENERATION, run.generation.to_string()),
        (ENV_EPOCH, epoch.to_string()),
        (ENV_RUNTIME_DIR, layout.vm_runtime_dir(vm)),
        (ENV_STATE_DIR, layout.vm_state_dir(vm)),
    ];
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
        slice: tenant_slice(unit.vm.tenant()),
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

fn restart(spec: &Spec) -> RestartPolicy {
    match spec.kind {
        VmKind::Service => RestartPolicy::Always {
            delay_ms: spec.restart.delay_ms,
            burst: spec.restart.burst,
            within_ms: spec.restart.within_ms,
        },
        VmKind::Task => RestartPolicy::Never,
    }
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
        RunIntent { generation: GenerationNumber(3), closure, spec }
    }

    #[test]
    fn a_vm_runs_in_its_tenants_slice_with_its_placement_recorded() {
        let unit = run_unit(
            &"a-b/web".parse().unwrap(),
            Epoch(2),
            &intent(Spec::minimal(1, 128)),
            &HostLayout::default(),
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
        }
        "#);
    }

    #[test]
    fn a_unit_says_by_itself_how_its_guest_is_asked_to_shut_down() {
        let mut spec = Spec::minimal(1, 128);
        (spec.can_shutdown, spec.stop_timeout_ms) = (true, 7000);
        let (vm, layout): (VmId, _) = ("a-b/web".parse().unwrap(), HostLayout::default());
        let unit = run_unit(&vm, Epoch(2), &intent(spec.clone()), &layout);
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
        assert_eq!(graceful_stop(&observed(run_unit(&vm, Epoch(2), &intent(spec), &layout))), None);
    }

    #[test]
    fn a_unit_says_by_itself_under_which_account_its_guest_is_asked() {
        let mut spec = Spec::minimal(1, 128);
        let account = Account { user: "microvm".to_owned(), group: "kvm".to_owned() };
        (spec.can_shutdown, spec.account) = (true, Some(account.clone()));
        let vm: VmId = "web".parse().unwrap();
        let unit = run_unit(&vm, Epoch(2), &intent(spec), &HostLayout::default());
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
        let unit = run_unit(&"web".parse().unwrap(), Epoch(1), &intent(spec), &HostLayout::default());
        assert_eq!(unit.slice, "blixardkeep-default.slice");
    }

    #[test]
    fn the_runtime_directory_of_a_vm_outlives_the_daemons_own() {
        let layout = HostLayout::default();
        assert!(!layout.vm_runtime_dir(&"web".parse().unwrap()).starts_with("/run/blixard/"));
    }
}
