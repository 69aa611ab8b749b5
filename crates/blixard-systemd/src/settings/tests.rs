//! The whole property list as a snapshot, and what cannot be written as one.

use std::collections::BTreeMap;

use blixard_types::VmId;
use blixard_types::unit::{RunUnitName, StopUnitName};

use super::*;

fn unit() -> TransientUnit {
    let vm: VmId = "acme/web-1".parse().unwrap();
    TransientUnit {
        name: RunUnitName::of(&vm),
        description: "Blixard vm acme/web-1".to_owned(),
        slice: "blixard-acme.slice".to_owned(),
        account: None,
        argv: vec!["/nix/store/x/bin/run".to_owned(), "a $b %c".to_owned()],
        environment: BTreeMap::from([
            ("BLIXARD_EPOCH".to_owned(), "3".to_owned()),
            ("BLIXARD_GENERATION".to_owned(), "7".to_owned()),
        ]),
        working_directory: "/var/lib/blixard/vms/acme/web-1".to_owned(),
        runtime_directory: "/run/blixard/vms/acme/web-1".to_owned(),
        readiness: Readiness::Executed,
        start_timeout_ms: 30_000,
        stop_timeout_ms: 1_000,
        restart: RestartPolicy::Always { delay_ms: 1_000, burst: 5, within_ms: 60_000 },
        memory_max: 512 << 20,
        tasks_max: 64,
        devices: vec!["/dev/kvm".to_owned()],
        writable: vec!["/srv/volumes/acme".to_owned()],
        credentials: vec![],
        bound_to: Some("blixard-lease.service"),
        before: "blixard-drain.service",
    }
}

fn text(settings: &[Setting]) -> String {
    let lines: Vec<String> = settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    lines.join("\n")
}

#[test]
fn a_unit_is_written_as_these_properties() {
    insta::assert_snapshot!(text(&settings(&unit()).unwrap()));
}

#[test]
fn the_unit_that_asks_a_guest_is_as_confined_as_the_hypervisor() {
    let vm: VmId = "acme/web-1".parse().unwrap();
    let ask = GracefulStop {
        run: RunUnitName::of(&vm),
        name: StopUnitName::of(&vm),
        slice: "blixard-acme.slice".to_owned(),
        account: None,
        program: "/nix/store/x/bin/microvm-shutdown".to_owned(),
        environment: BTreeMap::from([("MAINPID".to_owned(), "41".to_owned())]),
        working_directory: "/var/lib/blixard/vms/acme/web-1".to_owned(),
        runtime_directory: "/run/blixard-vms/acme/web-1".to_owned(),
        main_pid: 41,
        timeout_ms: 30_000,
    };
    insta::assert_snapshot!(text(&stop_settings(&ask)), @r#"
    Description = "asks the guest of blixard-vm-acme-web\\x2d1-run.service to shut down"
    Slice = "blixard-acme.slice"
    ExecStartEx = [("/nix/store/x/bin/microvm-shutdown", ["/nix/store/x/bin/microvm-shutdown"], ["no-env-expand"])]
    Environment = ["MAINPID=41"]
    StandardOutput = "journal"
    StandardError = "journal"
    SyslogIdentifier = "blixard-vm-acme-web\\x2d1-stop.service"
    WorkingDirectory = "/var/lib/blixard/vms/acme/web-1"
    ReadWritePaths = ["/var/lib/blixard/vms/acme/web-1", "/run/blixard-vms/acme/web-1"]
    Type = "oneshot"
    CollectMode = "inactive-or-failed"
    KillMode = "control-group"
    KillSignal = 9
    SendSIGKILL = true
    TimeoutStartUSec = uint64 30000000
    MemoryMax = uint64 268435456
    TasksMax = uint64 64
    DevicePolicy = "closed"
    NoNewPrivileges = true
    PrivateTmp = true
    ProtectHome = "yes"
    ProtectSystem = "strict"
    ProtectKernelTunables = true
    ProtectKernelModules = true
    ProtectControlGroups = true
    RestrictSUIDSGID = true
    "#);
}

#[test]
fn a_unit_that_notifies_lets_every_process_of_it_do_so() {
    let notified = TransientUnit { readiness: Readiness::Notified, ..unit() };
    let all = text(&settings(&notified).unwrap());
    assert!(all.contains("Type = \"notify\"\nNotifyAccess = \"all\""), "{all}");
}

#[test]
fn a_unit_with_an_account_runs_under_it() {
    let account = Some(Account { user: "microvm".to_owned(), group: "kvm".to_owned() });
    let all = text(&settings(&TransientUnit { account, ..unit() }).unwrap());
    assert!(all.contains("User = \"microvm\"\nGroup = \"kvm\""), "{all}");
    assert!(!text(&settings(&unit()).unwrap()).contains("User"), "root needs no word");
}

#[test]
fn a_unit_that_is_never_restarted_has_no_start_limit() {
    let once = TransientUnit { restart: RestartPolicy::Never, ..unit() };
    let all = text(&settings(&once).unwrap());
    assert!(all.contains("Restart = \"no\"\nRemainAfterExit = true"), "{all}");
    assert!(all.contains("CollectMode = \"inactive\"\n"), "{all}");
    assert!(!all.contains("StartLimit"), "{all}");
}

#[test]
fn a_unit_without_a_program_is_refused() {
    let empty = TransientUnit { argv: Vec::new(), ..unit() };
    assert_eq!(settings(&empty), Err(BadUnit::NoProgram));
}

#[test]
fn a_runtime_directory_outside_run_is_refused() {
    for directory in ["/run", "/run/", "/run//a", "/run/a/../../etc", "/var/run/a", "run/a", "/run/a/"] {
        let elsewhere = TransientUnit { runtime_directory: directory.to_owned(), ..unit() };
        assert_eq!(settings(&elsewhere), Err(BadUnit::RuntimeDirectory(directory.to_owned())));
    }
}

#[test]
fn a_unit_that_is_bound_to_none_waits_for_none() {
    let free = text(&settings(&TransientUnit { bound_to: None, ..unit() }).unwrap());
    assert!(!free.contains("BindsTo") && !free.contains("After ="), "{free}");
}
