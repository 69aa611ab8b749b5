//! A confined program as the list of properties that `StartTransientUnit` takes.
//!
//! Owns: what confinement is. Pure. Refuses to know: the bus. Settings are described in systemd.exec(5),
//! systemd.service(5), systemd.kill(5) and systemd.resource-control(5).

use blixard_core::ports::confined::{ConfinedProgram, Network};
use zbus::zvariant::{Fd, Value};

use super::streams::Ends;
use super::{ConfinementOptions, SLICE};
use crate::settings::{Setting, microseconds};

const SIGKILL: i32 = 9;

/// How long the end of all processes may take after SIGKILL.
const STOP_TIMEOUT_MS: u64 = 10_000;

/// Private memory that a program may reserve beyond what it may use: stacks of its threads, arenas.
const RESERVED_MAX: u64 = 256 << 20;

/// More than the daemon and the guests.
const NICE: i32 = 5;

/// Every property of the unit, in a fixed order. The pipes' ends are among them.
pub(super) fn properties(
    program: &ConfinedProgram,
    options: &ConfinementOptions,
    ends: Ends,
) -> Vec<Setting> {
    let mut all = execution(program);
    all.extend([
        ("StandardInput", "null".into()),
        ("StandardOutputFileDescriptor", Value::Fd(Fd::from(ends.stdout))),
        ("StandardErrorFileDescriptor", Value::Fd(Fd::from(ends.stderr))),
    ]);
    all.extend(lifecycle(program.limits.time_ms));
    all.extend(limits(program));
    all.extend(identity(program, options));
    all.extend(network(program.network));
    all.extend(sandbox(options));
    all
}

fn execution(program: &ConfinedProgram) -> Vec<Setting> {
    let path = program.argv.first().cloned().unwrap_or_default();
    // `ExecStart` would have systemd replace `$NAME` in the arguments.
    let flags = vec!["no-env-expand".to_owned()];
    let environment: Vec<String> =
        program.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        ("Description", format!("Blixard: {}, confined", program.purpose).into()),
        ("Slice", SLICE.into()),
        ("ExecStartEx", vec![(path, program.argv.clone(), flags)].into()),
        ("Environment", environment.into()),
    ]
}

/// The start job of a `oneshot` ends with the program, and the reference keeps its result readable.
fn lifecycle(time_ms: u64) -> Vec<Setting> {
    vec![
        ("Type", "oneshot".into()),
        ("AddRef", true.into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("KillMode", "control-group".into()),
        ("KillSignal", SIGKILL.into()),
        ("SendSIGKILL", true.into()),
        ("TimeoutStartUSec", microseconds(time_ms).into()),
        ("TimeoutStopUSec", microseconds(STOP_TIMEOUT_MS).into()),
    ]
}

/// The cgroup's limit is the exact one. Where the kernel does not keep it (a machine whose memory
/// controller is with cgroup v1), the resource limit of each process does.
fn limits(program: &ConfinedProgram) -> Vec<Setting> {
    let memory_max = program.limits.memory_max;
    vec![
        ("MemoryMax", memory_max.into()),
        ("MemorySwapMax", 0_u64.into()),
        ("OOMPolicy", "kill".into()),
        ("TasksMax", program.limits.tasks_max.into()),
        ("LimitDATA", memory_max.saturating_add(RESERVED_MAX).into()),
        ("LimitFSIZE", memory_max.into()),
        ("LimitCORE", 0_u64.into()),
        ("Nice", NICE.into()),
    ]
}

fn identity(program: &ConfinedProgram, options: &ConfinementOptions) -> Vec<Setting> {
    let groups: Vec<String> = program.groups.iter().map(u32::to_string).collect();
    let mut settings = vec![("SupplementaryGroups", groups.into())];
    match &options.user {
        Some(user) => settings.push(("User", user.clone().into())),
        // The user is the unit's alone, so its processes are: a second limit where the kernel does not keep
        // `TasksMax` (a machine whose controller of tasks is with cgroup v1).
        None => {
            settings.extend([("DynamicUser", true.into()), ("LimitNPROC", program.limits.tasks_max.into())]);
        }
    }
    settings
}

fn network(network: Network) -> Vec<Setting> {
    let families = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        // `true`: these and no others.
        ("RestrictAddressFamilies", Value::from((true, names)))
    };
    match network {
        Network::None => vec![("PrivateNetwork", true.into()), families(&["AF_UNIX"])],
        Network::Host => vec![families(&["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"])],
    }
}

fn sandbox(options: &ConfinementOptions) -> Vec<Setting> {
    // The bus would do for anybody what it does for everybody.
    let mut hidden = vec!["-/run/dbus".to_owned()];
    hidden.extend(options.hidden.iter().map(|path| format!("-{}", path.display())));
    vec![
        ("InaccessiblePaths", hidden.into()),
        ("ProtectSystem", "strict".into()),
        ("ProtectHome", "yes".into()),
        ("PrivateTmp", true.into()),
        ("PrivateDevices", true.into()),
        ("NoNewPrivileges", true.into()),
        ("CapabilityBoundingSet", 0_u64.into()),
        ("AmbientCapabilities", 0_u64.into()),
        ("ProtectKernelTunables", true.into()),
        ("ProtectKernelModules", true.into()),
        ("ProtectKernelLogs", true.into()),
        ("ProtectControlGroups", true.into()),
        ("ProtectClock", true.into()),
        ("ProtectProc", "invisible".into()),
        ("RestrictNamespaces", 0_u64.into()),
        ("RestrictRealtime", true.into()),
        ("RestrictSUIDSGID", true.into()),
        ("LockPersonality", true.into()),
        ("UMask", 0o077_u32.into()),
    ]
}
