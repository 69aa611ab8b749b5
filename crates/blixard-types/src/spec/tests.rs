use serde_json::{Value, json};

use super::*;

fn base() -> Value {
    json!({ "schema": 1, "resources": { "vcpus": 1, "memoryMib": 128 } })
}

/// The base spec with one value set at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut json = base();
    let mut at = &mut json;
    for key in pointer.split('.') {
        at = &mut at[key];
    }
    *at = value;
    json
}

fn refused(json: &Value) -> String {
    Spec::from_json(json).unwrap_err().to_string()
}

#[test]
fn what_a_spec_leaves_out_has_a_default() {
    let spec = Spec::from_json(&base()).unwrap();
    assert_eq!(spec, Spec::minimal(1, 128));
    insta::assert_snapshot!(spec.to_canonical_json().unwrap(), @r#"{"schema":1,"tenant":"default","kind":"service","resources":{"vcpus":1,"memoryMib":128,"overheadMib":256},"hypervisor":"qemu","kvm":"preferred","notify":false,"canShutdown":false,"stopTimeoutMs":30000,"health":{"activeForMs":3000,"deadlineMs":120000,"checks":[]},"restart":{"delayMs":1000,"burst":5,"withinMs":120000},"placement":{"onPartition":"stop","constraints":[],"affinity":{},"antiAffinity":{},"priority":0},"update":{"rollback":true},"account":null,"interfaces":[],"volumes":[],"shares":[],"vsockCid":null,"devices":[],"credentials":{},"labels":{}}"#);
}

#[test]
fn the_canonical_text_reads_back_as_the_same_spec() {
    let mut spec = Spec::minimal(2, 256);
    spec.health.checks = vec![
        Check::Tcp { address: "10.0.0.2:80".into() },
        Check::Http { address: "[::1]:80".into(), path: "/".into() },
    ];
    spec.labels.insert("tier".into(), "web".into());
    spec.vsock_cid = Some(3);
    let json: Value = serde_json::from_str(&spec.to_canonical_json().unwrap()).unwrap();
    assert_eq!(Spec::from_json(&json).unwrap(), spec);
}

#[test]
fn a_bad_value_is_refused_with_its_key_and_the_rule() {
    let mut table = String::new();
    let interface = json!([{ "kind": "tap", "id": "vm-a", "mac": "02:00:00:00:00:01" }]);
    for (pointer, value) in [
        ("schema", json!(2)),
        ("schema", json!("1")),
        ("memory", json!(1)),
        ("resources", json!({ "vcpus": 1 })),
        ("resources.vcpus", json!(0)),
        ("resources.vcpus", json!(-1)),
        ("resources.vcpus", json!(1.5)),
        ("resources.vcpus", json!(99_999)),
        ("resources.memoryMib", json!(u64::MAX)),
        ("resources.memoryMib", json!("128")),
        ("resources.memoryMb", json!(128)),
        ("tenant", json!("../etc")),
        ("stopTimeoutMs", json!(3_600_001)),
        ("restart", json!({ "delayMs": 1 })),
        ("health", json!({ "deadlineMs": 0 })),
        ("health", json!({ "checks": [{ "kind": "tcp", "address": "guest" }] })),
        ("health", json!({ "checks": [{ "kind": "http", "address": "10.0.0.1:80", "path": "/a b" }] })),
        ("health", json!({ "checks": [{ "kind": "ping" }] })),
        ("hypervisor", json!("xen")),
        ("kind", json!("once")),
        ("vsockCid", json!(2)),
        ("interfaces", json!([{ "kind": "tap", "id": "sixteen-bytes-id", "mac": "02:00:00:00:00:01" }])),
        ("interfaces", json!([{ "kind": "tap", "id": "vm-a", "mac": "01:00:00:00:00:01" }])),
        ("interfaces", json!([interface[0], interface[0]])),
        ("volumes", json!([{ "name": "data", "image": "../data.img", "sizeMib": 1 }])),
        ("volumes", json!([{ "name": "data", "image": "data.img", "sizeMib": 0 }])),
        ("placement", json!({ "constraints": [{ "label": "zone", "operator": "in" }] })),
    ] {
        table += &format!("{pointer} = {value}\n    {}\n", refused(&with(pointer, value.clone())));
    }
    insta::assert_snapshot!(table, @r#"
    schema = 2
        schema: schema 2 is not supported, this version reads schema 1
    schema = "1"
        schema: schema "1" is not supported, this version reads schema 1
    memory = 1
        memory: unknown field `memory`, expected one of `schema`, `tenant`, `kind`, `resources`, `hypervisor`, `kvm`, `notify`, `canShutdown`, `stopTimeoutMs`, `health`, `restart`, `placement`, `update`, `account`, `interfaces`, `volumes`, `shares`, `vsockCid`, `devices`, `credentials`, `labels`
    resources = {"vcpus":1}
        resources: missing field `memoryMib`
    resources.vcpus = 0
        resources.vcpus: 0 is out of range, allowed is 1 to 1024
    resources.vcpus = -1
        resources.vcpus: invalid value: integer `-1`, expected u32
    resources.vcpus = 1.5
        resources.vcpus: invalid type: floating point `1.5`, expected u32
    resources.vcpus = 99999
        resources.vcpus: 99999 is out of range, allowed is 1 to 1024
    resources.memoryMib = 18446744073709551615
        resources.memoryMib: 18446744073709551615 is out of range, allowed is 16 to 16777216
    resources.memoryMib = "128"
        resources.memoryMib: invalid type: string "128", expected u64
    resources.memoryMb = 128
        resources.memoryMb: unknown field `memoryMb`, expected one of `vcpus`, `memoryMib`, `overheadMib`
    tenant = "../etc"
        tenant: the tenant name "../etc" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    stopTimeoutMs = 3600001
        stopTimeoutMs: 3600001 is out of range, allowed is 0 to 3600000
    restart = {"delayMs":1}
        restart.delayMs: 1 is out of range, allowed is 1000 to 3600000
    health = {"deadlineMs":0}
        health.deadlineMs: 0 is out of range, allowed is 1000 to 86400000
    health = {"checks":[{"address":"guest","kind":"tcp"}]}
        health.checks[0].address: "guest" is not allowed: expected address:port, as in 10.0.0.2:80 or [fd00::2]:80
    health = {"checks":[{"address":"10.0.0.1:80","kind":"http","path":"/a b"}]}
        health.checks[0].path: "/a b" is not allowed: expected a path that begins with `/` and has no spaces or control characters
    health = {"checks":[{"kind":"ping"}]}
        health.checks[0].kind: unknown variant `ping`, expected `tcp` or `http`
    hypervisor = "xen"
        hypervisor: unknown variant `xen`, expected one of `qemu`, `cloud-hypervisor`, `firecracker`, `crosvm`, `kvmtool`, `stratovirt`, `alioth`
    kind = "once"
        kind: unknown variant `once`, expected `service` or `task`
    vsockCid = 2
        vsockCid: 2 is out of range, allowed is 3 to 4294967294
    interfaces = [{"id":"sixteen-bytes-id","kind":"tap","mac":"02:00:00:00:00:01"}]
        interfaces[0].id: "sixteen-bytes-id" is not allowed: an interface name has 1 to 15 letters, digits, `-`, `_` or `.`
    interfaces = [{"id":"vm-a","kind":"tap","mac":"01:00:00:00:00:01"}]
        interfaces[0].mac: "01:00:00:00:00:01" is not allowed: expected a unicast address as in 02:00:00:00:00:01
    interfaces = [{"id":"vm-a","kind":"tap","mac":"02:00:00:00:00:01"},{"id":"vm-a","kind":"tap","mac":"02:00:00:00:00:01"}]
        interfaces[1].id: "vm-a" is there twice
    volumes = [{"image":"../data.img","name":"data","sizeMib":1}]
        volumes[0].image: "../data.img" is not allowed: expected a path below the vm's state directory
    volumes = [{"image":"data.img","name":"data","sizeMib":0}]
        volumes[0].sizeMib: 0 is out of range, allowed is 1 to 1073741824
    placement = {"constraints":[{"label":"zone","operator":"in"}]}
        placement.constraints[0].values: "" is not allowed: `in` and `not-in` take at least one value, `exists` and `absent` none
    "#);
}

#[test]
fn a_secret_is_a_file_of_its_tenant() {
    let mut table = String::new();
    for secret in [
        json!({ "a/b": "secret" }),
        json!({ "key": "/etc/shadow" }),
        json!({ "key": "../other/key" }),
        json!({ "key": "web/.hidden" }),
        json!({ "key": "web/key.cred" }),
    ] {
        table += &format!("credentials = {secret}\n    {}\n", refused(&with("credentials", secret.clone())));
    }
    insta::assert_snapshot!(table, @r#"
    credentials = {"a/b":"secret"}
        credentials: "a/b" is not allowed: a credential's name has letters, digits, `-`, `_` or `.`
    credentials = {"key":"/etc/shadow"}
        credentials.key: "/etc/shadow" is not allowed: expected a file below the host's directory of the tenant's credentials, as in `web/key`: no absolute path, no `..`, and no `.cred` at its end
    credentials = {"key":"../other/key"}
        credentials.key: "../other/key" is not allowed: expected a file below the host's directory of the tenant's credentials, as in `web/key`: no absolute path, no `..`, and no `.cred` at its end
    credentials = {"key":"web/.hidden"}
        credentials.key: "web/.hidden" is not allowed: expected a file below the host's directory of the tenant's credentials, as in `web/key`: no absolute path, no `..`, and no `.cred` at its end
    credentials = {"key":"web/key.cred"}
        credentials.key: "web/key.cred" is not allowed: expected a file below the host's directory of the tenant's credentials, as in `web/key`: no absolute path, no `..`, and no `.cred` at its end
    "#);
}

#[test]
fn nothing_is_asked_of_a_task() {
    let mut task = with("kind", json!("task"));
    assert_eq!(Spec::from_json(&task).unwrap().kind, VmKind::Task);
    task["health"] = json!({ "checks": [{ "kind": "tcp", "address": "10.0.0.2:80" }] });
    insta::assert_snapshot!(refused(&task), @r#"health.checks: "task" is not allowed: a task ends when it is done, so nothing can be asked of it"#);
}

#[test]
fn a_volume_is_where_it_may_be_and_has_its_image_alone() {
    let mut table = String::new();
    for (pointer, value) in [
        ("volumes", json!([{ "name": "data", "image": "/dev/sda", "sizeMib": 1 }])),
        ("volumes", json!([{ "name": "data", "image": "/dev/../etc", "sizeMib": 1, "kind": "shared" }])),
        (
            "volumes",
            json!([
                { "name": "a", "image": "disks", "sizeMib": 1 },
                { "name": "b", "image": "disks/b.img", "sizeMib": 1 }
            ]),
        ),
        ("volumes", json!([{ "name": "data", "image": "d", "sizeMib": 1, "fsType": "zfs" }])),
        ("volumes", json!([{ "name": "data", "image": "d", "sizeMib": 1, "label": "data" }])),
        (
            "volumes",
            json!([{ "name": "data", "image": "d", "sizeMib": 1, "fsType": "ext4", "label": "-d/etc" }]),
        ),
    ] {
        table += &format!("{pointer} = {value}\n    {}\n", refused(&with(pointer, value.clone())));
    }
    insta::assert_snapshot!(table, @r#"
    volumes = [{"image":"/dev/sda","name":"data","sizeMib":1}]
        volumes[0].image: "/dev/sda" is not allowed: expected a path below the vm's state directory
    volumes = [{"image":"/dev/../etc","kind":"shared","name":"data","sizeMib":1}]
        volumes[0].image: "/dev/../etc" is not allowed: expected an absolute path, or one below the vm's state directory
    volumes = [{"image":"disks","name":"a","sizeMib":1},{"image":"disks/b.img","name":"b","sizeMib":1}]
        volumes[1].image: "disks" is there twice
    volumes = [{"fsType":"zfs","image":"d","name":"data","sizeMib":1}]
        volumes[0].fsType: unknown variant `zfs`, expected one of `ext2`, `ext3`, `ext4`, `xfs`, `btrfs`, `vfat`
    volumes = [{"image":"d","label":"data","name":"data","sizeMib":1}]
        volumes[0].label: "data" is not allowed: a label is one of a `fsType`: 1 to 16 letters, digits, `-` or `_` (vfat 11, xfs 12), and no `-` first
    volumes = [{"fsType":"ext4","image":"d","label":"-d/etc","name":"data","sizeMib":1}]
        volumes[0].label: "-d/etc" is not allowed: a label is one of a `fsType`: 1 to 16 letters, digits, `-` or `_` (vfat 11, xfs 12), and no `-` first
    "#);
}

#[test]
fn an_address_twice_a_bad_bridge_and_a_bad_account_are_refused() {
    let mut table = String::new();
    let tap = |id| json!({ "kind": "tap", "id": id, "mac": "02:00:00:00:00:01" });
    for (pointer, value) in [
        ("interfaces", json!([tap("vm-a"), tap("vm-b")])),
        ("interfaces", json!([{ "kind": "tap", "id": "a", "mac": "02:00:00:00:00:01", "bridge": "a b" }])),
        ("account", json!({ "user": "microvm" })),
        ("account", json!({ "user": "0", "group": "kvm" })),
        ("account", json!({ "user": "microvm", "group": "%i" })),
    ] {
        table += &format!("{pointer} = {value}\n    {}\n", refused(&with(pointer, value.clone())));
    }
    insta::assert_snapshot!(table, @r#"
    interfaces = [{"id":"vm-a","kind":"tap","mac":"02:00:00:00:00:01"},{"id":"vm-b","kind":"tap","mac":"02:00:00:00:00:01"}]
        interfaces[1].mac: "02:00:00:00:00:01" is there twice
    interfaces = [{"bridge":"a b","id":"a","kind":"tap","mac":"02:00:00:00:00:01"}]
        interfaces[0].bridge: "a b" is not allowed: an interface name has 1 to 15 letters, digits, `-`, `_` or `.`
    account = {"user":"microvm"}
        account: missing field `group`
    account = {"group":"kvm","user":"0"}
        account.user: "0" is not allowed: an account's name has lower-case letters, digits, `_` or `-`, at most 31
    account = {"group":"%i","user":"microvm"}
        account.group: "%i" is not allowed: an account's name has lower-case letters, digits, `_` or `-`, at most 31
    "#);
}

#[test]
fn what_is_no_spec_at_all_is_called_that() {
    insta::assert_snapshot!(refused(&Value::Null), @"spec: expected an attribute set, got nothing");
    insta::assert_snapshot!(refused(&json!([])), @"spec: expected an attribute set, got a list");
    insta::assert_snapshot!(refused(&json!({})), @"spec: missing field `schema`");
}

#[test]
fn the_committed_json_schema_is_the_one_of_the_types() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec-v1.schema.json");
    if std::env::var_os("BLIXARD_UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == schema, "run BLIXARD_UPDATE_SCHEMA=1 cargo test -p blixard-types and review {path}");
}
