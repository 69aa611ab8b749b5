//! A transient unit as the list of properties that `StartTransientUnit` takes.
//!
//! Owns: which systemd setting each field of [`TransientUnit`] becomes, and the sandbox that every
//! unit gets. Pure. Refuses to know: the bus. Settings are described in systemd.exec(5),
//! systemd.service(5), systemd.kill(5) and systemd.resource-control(5).

use std::collections::BTreeMap;

use blixard_core::ports::units::{GracefulStop, Readiness, RestartPolicy, TransientUnit};
use blixard_types::spec::Account;
use zbus::zvariant::Value;

/// One property: its name and its value.
pub(crate) type Setting = (&'static str, Value<'static>);

/// `SIGKILL`: a hypervisor that is to stop has been asked before; this is the fence.
const SIGKILL: i32 = 9;

/// Memory of a program that sends an order over a socket: a shell, socat, curl.
const STOP_MEMORY_MAX: u64 = 256 << 20;

/// Its threads and processes.
const STOP_TASKS_MAX: u64 = 64;

/// `RLIM_INFINITY`.
const UNLIMITED: u64 = u64::MAX;

/// Why a unit cannot be written as properties.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUnit {
    /// Nothing to execute.
    #[error("it has no program")]
    NoProgram,
    /// `RuntimeDirectory=` is relative to `/run` and has no `..`.
    #[error("its runtime directory {0} is not below /run")]
    RuntimeDirectory(String),
}

/// All properties of a unit, in a fixed order.
pub(crate) fn settings(unit: &TransientUnit) -> Result<Vec<Setting>, BadUnit> {
    let mut all = program(unit)?;
    all.extend(directories(unit)?);
    all.extend(order(unit));
    all.extend(lifecycle(unit));
    all.extend(restart(unit.restart));
    all.extend(limits(unit));
    all.extend(sandbox());
    Ok(all)
}

/// All properties of the unit that asks a guest to shut down: a program that runs once, as confined as
/// the hypervisor that it speaks to. It has the run unit's directories, and leaves them alone when it ends.
pub(crate) fn stop_settings(ask: &GracefulStop) -> Vec<Setting> {
    let description = format!("asks the guest of {} to shut down", ask.run);
    let (slice, argv) = (ask.slice.clone(), vec![ask.program.clone()]);
    let mut all = execution(description, slice, &ask.program, argv, &ask.environment);
    all.extend(account(ask.account.as_ref()));
    let writable = vec![ask.working_directory.clone(), ask.runtime_directory.clone()];
    all.extend([
        ("SyslogIdentifier", ask.name.to_string().into()),
        ("WorkingDirectory", ask.working_directory.clone().into()),
        ("ReadWritePaths", writable.into()),
        ("Type", "oneshot".into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("KillMode", "control-group".into()),
        ("KillSignal", SIGKILL.into()),
        ("SendSIGKILL", true.into()),
        ("TimeoutStartUSec", microseconds(ask.timeout_ms).into()),
        ("MemoryMax", STOP_MEMORY_MAX.into()),
        ("TasksMax", STOP_TASKS_MAX.into()),
        ("DevicePolicy", "closed".into()),
    ]);
    all.extend(sandbox());
    all
}

fn program(unit: &TransientUnit) -> Result<Vec<Setting>, BadUnit> {
    let path = unit.argv.first().ok_or(BadUnit::NoProgram)?;
    let (description, slice) = (unit.description.clone(), unit.slice.clone());
    let mut all = execution(description, slice, path, unit.argv.clone(), &unit.environment);
    all.extend(account(unit.account.as_ref()));
    all.push(("SyslogIdentifier", unit.name.to_string().into()));
    Ok(all)
}

/// Without an account a program runs as root, in its sandbox.
fn account(account: Option<&Account>) -> Vec<Setting> {
    let Some(Account { user, group }) = account else { return Vec::new() };
    vec![("User", user.clone().into()), ("Group", group.clone().into())]
}

fn execution(
    description: String,
    slice: String,
    path: &str,
    argv: Vec<String>,
    environment: &BTreeMap<String, String>,
) -> Vec<Setting> {
    // `ExecStart` would have systemd replace `$NAME` in the arguments.
    let flags = vec!["no-env-expand".to_owned()];
    let environment: Vec<String> =
        environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        ("Description", description.into()),
        ("Slice", slice.into()),
        ("ExecStartEx", vec![(path.to_owned(), argv, flags)].into()),
        ("Environment", environment.into()),
        ("StandardOutput", "journal".into()),
        ("StandardError", "journal".into()),
    ]
}

fn directories(unit: &TransientUnit) -> Result<Vec<Setting>, BadUnit> {
    let mut writable = vec![unit.working_directory.clone(), unit.runtime_directory.clone()];
    writable.extend(unit.writable.iter().cloned());
    Ok(vec![
        ("WorkingDirectory", unit.working_directory.clone().into()),
        ("RuntimeDirectory", vec![below_run(&unit.runtime_directory)?].into()),
        ("RuntimeDirectoryMode", 0o700_u32.into()),
        ("ReadWritePaths", writable.into()),
    ])
}

/// The part of a directory's path after `/run/`.
fn below_run(directory: &str) -> Result<String, BadUnit> {
    directory
        .strip_prefix("/run/")
        .filter(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        .map(str::to_owned)
        .ok_or_else(|| BadUnit::RuntimeDirectory(directory.to_owned()))
}

/// systemd.unit(5): bound to another it is stopped with that one, and not started again by its policy.
fn order(unit: &TransientUnit) -> Vec<Setting> {
    let list = |unit: &str| Value::from(vec![unit.to_owned()]);
    let bound = unit.bound_to.map(|other| [("BindsTo", list(other)), ("After", list(other))]);
    bound.into_iter().flatten().chain([("Before", list(unit.before))]).collect()
}

fn lifecycle(unit: &TransientUnit) -> Vec<Setting> {
    let mut settings = match unit.readiness {
        Readiness::Executed => vec![("Type", "exec".into())],
        Readiness::Notified => vec![("Type", "notify".into()), ("NotifyAccess", "all".into())],
    };
    settings.extend([("CollectMode", collect_mode(unit.restart).into())]);
    settings.extend([
        ("KillMode", "control-group".into()),
        ("KillSignal", SIGKILL.into()),
        ("SendSIGKILL", true.into()),
        ("TimeoutStartUSec", microseconds(unit.start_timeout_ms).into()),
        ("TimeoutStopUSec", microseconds(unit.stop_timeout_ms).into()),
    ]);
    settings
}

/// systemd.unit(5). How a unit has failed that runs once can be seen until somebody has looked.
fn collect_mode(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Never => "inactive",
        RestartPolicy::Always { .. } => "inactive-or-failed",
    }
}

fn restart(policy: RestartPolicy) -> Vec<Setting> {
    match policy {
        // And that it has ended well, which is how a daemon learns of it that was away.
        RestartPolicy::Never => vec![("Restart", "no".into()), ("RemainAfterExit", true.into())],
        RestartPolicy::Always { delay_ms, burst, within_ms } => vec![
            ("Restart", "always".into()),
            ("RestartUSec", microseconds(delay_ms).into()),
            ("StartLimitBurst", burst.into()),
            ("StartLimitIntervalUSec", microseconds(within_ms).into()),
        ],
    }
}

fn limits(unit: &TransientUnit) -> Vec<Setting> {
    let devices: Vec<(String, String)> =
        unit.devices.iter().map(|device| (device.clone(), "rw".to_owned())).collect();
    vec![
        ("MemoryMax", unit.memory_max.into()),
        ("TasksMax", unit.tasks_max.into()),
        // Half a vm is none: what the kernel kills for want of memory, it kills as a whole.
        ("OOMPolicy", "kill".into()),
        // Guests with devices passed through lock all their memory; MemoryMax bounds it.
        ("LimitMEMLOCK", UNLIMITED.into()),
        // `closed` has null, zero, full, random, urandom, tty, ptmx and pts: what a console needs.
        ("DevicePolicy", "closed".into()),
        ("DeviceAllow", devices.into()),
    ]
}

fn sandbox() -> Vec<Setting> {
    vec![
        ("NoNewPrivileges", true.into()),
        ("PrivateTmp", true.into()),
        ("ProtectHome", "yes".into()),
        ("ProtectSystem", "strict".into()),
        ("ProtectKernelTunables", true.into()),
        ("ProtectKernelModules", true.into()),
        ("ProtectControlGroups", true.into()),
        ("RestrictSUIDSGID", true.into()),
    ]
}

pub(crate) const fn microseconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(1000)
}

// The path is said for `examples/bare_starts.rs`, which takes this file in from its own folder.
#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
