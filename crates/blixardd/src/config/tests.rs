use blixard_core::lease::Profile;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("blixardd.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_a_cluster_of_one_with_every_role() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.node.roles.len(), 3);
}

#[test]
fn the_documented_file_shows_every_key_with_its_default() {
    let documented = include_str!("../../../../docs/blixardd.toml");
    // With the comment marks of its keys taken away, it is a configuration; its values are the defaults.
    let uncomment = |line: &str| {
        let key =
            line.strip_prefix('#').filter(|key| key.starts_with(|first: char| first.is_ascii_lowercase()));
        key.unwrap_or(line).to_owned() + "\n"
    };
    let text: String = documented.lines().map(uncomment).collect();
    let mut expected = Config::default();
    expected.node.name = Some("alpha".parse().unwrap());
    expected.cluster.listen = Some("0.0.0.0:7440".parse().unwrap());
    expected.cluster.advertise = Some("alpha.example.org:7440".parse().unwrap());
    expected.cluster.peers = [("beta".parse().unwrap(), "10.0.0.12:7440".parse().unwrap())].into();
    expected.cluster.join_file = Some("/run/secrets/token".into());
    expected.evaluation.user = Some("blixard-evaluation".to_owned());
    expected.host.bridge = Some("br0".to_owned());
    expected.node.labels = [("zone".to_owned(), "a".to_owned())].into();
    expected.host.disk_mib = Some(102_400);
    expected.host.tenants = ["default".parse().unwrap()].into();
    expected.host.hypervisors = [Hypervisor::Qemu].into();
    let media = SharedVolume { path: "/dev/disk/by-id/media".into(), fenced: false };
    expected.host.shared_volumes = [("media".parse().unwrap(), media)].into();
    expected.host.lease_command = Some("/usr/local/bin/blixard-lease".into());
    let times = Profile::Default.times();
    expected.fencing = Fencing {
        profile: Some(Profile::Default),
        heartbeat_ms: Some(times.heartbeat_ms),
        lease_ms: Some(times.lease_ms),
        grace_ms: Some(times.grace_ms),
        silence_ms: Some(times.silence_ms),
        tick_ms: Some(times.tick_ms),
    };
    (expected.builder.max_jobs, expected.builder.cores) = (Some(4), Some(2));
    expected.transfer.fetch_bytes_per_s = Some(50_000_000);
    expected.transfer.send_bytes_per_s = Some(50_000_000);
    expected.cache.listen = Some("0.0.0.0:5000".parse().unwrap());
    expected.cache.key_name = Some("cache.example.org-1".to_owned());
    expected.cache.token_file = Some("/etc/blixard/cache-token".into());
    assert_eq!(parse(&text).unwrap(), expected);
    assert_eq!(parse(documented).unwrap(), Config::default());
    // Every key is there: a table with all of them has no other.
    let keys = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(keys, 51);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_wrong_key_or_value_is_refused_with_file_key_and_reason() {
    let mut table = String::new();
    for text in [
        "[node]\nnaem = \"a\"",
        "[nodes]\nname = \"a\"",
        "[node]\nname = \"A/b\"",
        "[node]\nname = 1",
        "[node]\nroles = [\"server\", \"cook\"]",
        "[node]\nroles = []",
        "[node]\nroles = [\"host\", \"builder\"]",
        "[node]\nlabels = { \"blixard/node\" = \"a\" }",
        "[host]\ncpu_overcommit = 0",
        "[host]\ncpu_overcommit = -1",
        "[host]\nhypervisors = [\"xen\"]",
        "[host]\ntenants = [\"A\"]",
        "[cluster]\nlisten = \"7440\"",
        "[cluster]\nlisten = \"0.0.0.0:7440\"",
        "[cluster]\nadvertise = \"alpha:7440\"",
        "[cluster]\njoin_file = \"token\"",
        "[storage]\ndata_dir = \"var\"",
        "[host]\nruntime_dir = \"/tmp/vms\"",
        "[host]\nruntime_dir = \"/run/blixard\"",
        "[host]\nlease_command = \"blixard-lease\"",
        "[fencing]\nprofile = \"slow\"",
        "[fencing]\nsilence_ms = 7300",
        "[fencing]\nprofile = \"fast\"\nlease_ms = 1000\nsilence_ms = 5000",
        "[sources]\nupload_max_mib = 0",
        "[sources]\nfetch_time_limit_s = 0",
        "[evaluation]\ntime_limit_s = 0",
        "[evaluation]\nmemory_max_mib = 64",
        "[evaluation]\noutput_max_mib = -1",
        "[evaluation]\noutput_max_mib = 1099511627777",
        "[evaluation]\nuser = \"root\"",
        "[builder]\nlog_max_mib = 0",
        "[builder]\nmax_jobs = 0",
        "[transfer]\npeers_max = 0",
        "[transfer]\npeers_max = 17",
        "[transfer]\nmemory_max_mib = 5",
        "[transfer]\nmemory_max_mib = 4097",
        "[transfer]\nuploads_max = 0",
        "[transfer]\nuploads_max = 257",
        "[transfer]\nuploads_per_node_max = 17",
        "[transfer]\nfetch_bytes_per_s = 1000",
        "[transfer]\nsend_bytes_per_s = 500000",
        "[cache]\nlisten = \"5000\"",
        "[cache]\nkey_name = \"a:b\"",
        "[cache]\ntoken_file = \"token\"",
        "[log]\nfilter = \"a=b=c\"",
        "[node\nname",
    ] {
        table += &format!("{text}\n    => {}\n", parse(text).unwrap_err());
    }
    insta::assert_snapshot!(table, @r#"
    [node]
    naem = "a"
        => blixardd.toml: node.naem: unknown field `naem`, expected one of `name`, `roles`, `labels`
    [nodes]
    name = "a"
        => blixardd.toml: nodes: unknown field `nodes`, expected one of `node`, `storage`, `api`, `cluster`, `fencing`, `host`, `nix`, `sources`, `evaluation`, `builder`, `transfer`, `cache`, `log`
    [node]
    name = "A/b"
        => blixardd.toml: node.name: the node name "A/b" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    [node]
    name = 1
        => blixardd.toml: node.name: invalid type: integer `1`, expected a string
    [node]
    roles = ["server", "cook"]
        => blixardd.toml: node.roles[1]: unknown variant `cook`, expected one of `server`, `host`, `builder`
    [node]
    roles = []
        => blixardd.toml: node.roles: a node without a role does nothing
    [node]
    roles = ["host", "builder"]
        => blixardd.toml: node.roles: a builder needs the role `server` too: deployments are sent to servers
    [node]
    labels = { "blixard/node" = "a" }
        => blixardd.toml: node.labels: blixard/node: labels that begin with blixard/ are Blixard's own
    [host]
    cpu_overcommit = 0
        => blixardd.toml: host.cpu_overcommit: must be at least 1
    [host]
    cpu_overcommit = -1
        => blixardd.toml: host.cpu_overcommit: invalid value: integer `-1`, expected a whole number from 0 to 4294967295
    [host]
    hypervisors = ["xen"]
        => blixardd.toml: host.hypervisors[0]: unknown variant `xen`, expected one of `qemu`, `cloud-hypervisor`, `firecracker`, `crosvm`, `kvmtool`, `stratovirt`, `alioth`
    [host]
    tenants = ["A"]
        => blixardd.toml: host.tenants[0]: the tenant name "A" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    [cluster]
    listen = "7440"
        => blixardd.toml: cluster.listen: "7440" is not an address: expected HOST:PORT, with a port
    [cluster]
    listen = "0.0.0.0:7440"
        => blixardd.toml: cluster.listen: others cannot reach this node at 0.0.0.0:7440; set cluster.advertise to a name or address of it
    [cluster]
    advertise = "alpha:7440"
        => blixardd.toml: cluster.advertise: needs `cluster.listen`, or nobody is there
    [cluster]
    join_file = "token"
        => blixardd.toml: cluster.join_file: token is not an absolute path
    [storage]
    data_dir = "var"
        => blixardd.toml: storage.data_dir: var is not an absolute path
    [host]
    runtime_dir = "/tmp/vms"
        => blixardd.toml: host.runtime_dir: /tmp/vms is not below /run, where systemd makes it
    [host]
    runtime_dir = "/run/blixard"
        => blixardd.toml: host.runtime_dir: the daemon's socket is in it, and systemd empties that directory with the daemon
    [host]
    lease_command = "blixard-lease"
        => blixardd.toml: host.lease_command: blixard-lease is not an absolute path
    [fencing]
    profile = "slow"
        => blixardd.toml: fencing.profile: unknown variant `slow`, expected one of `fast`, `default`, `relaxed`
    [fencing]
    silence_ms = 7300
        => blixardd.toml: fencing: a host is given up after 7300 ms of silence, but a lease of 6000 ms and a grace of 1000 ms, on clocks that are off by 1 % each, may last 7142 ms, and the leader looks every 250 ms: it must be at least 7392 ms
    [fencing]
    profile = "fast"
    lease_ms = 1000
    silence_ms = 5000
        => blixardd.toml: fencing: a lease of 1000 ms is too short for a heartbeat every 300 ms: two heartbeats, an election of 400 ms, two round trips of 50 ms and a pause of 500 ms take 1600 ms
    [sources]
    upload_max_mib = 0
        => blixardd.toml: sources.upload_max_mib: must be at least 1
    [sources]
    fetch_time_limit_s = 0
        => blixardd.toml: sources.fetch_time_limit_s: must be at least 1
    [evaluation]
    time_limit_s = 0
        => blixardd.toml: evaluation.time_limit_s: must be at least 1
    [evaluation]
    memory_max_mib = 64
        => blixardd.toml: evaluation.memory_max_mib: must be at least 128
    [evaluation]
    output_max_mib = -1
        => blixardd.toml: evaluation.output_max_mib: invalid value: integer `-1`, expected a whole number, 0 or more
    [evaluation]
    output_max_mib = 1099511627777
        => blixardd.toml: evaluation.output_max_mib: must be at most 1099511627776
    [evaluation]
    user = "root"
        => blixardd.toml: evaluation.user: evaluates what strangers wrote; it must be a user without rights
    [builder]
    log_max_mib = 0
        => blixardd.toml: builder.log_max_mib: must be at least 1
    [builder]
    max_jobs = 0
        => blixardd.toml: builder.max_jobs: with no job nothing is built; leave it out for what nix-daemon is configured to
    [transfer]
    peers_max = 0
        => blixardd.toml: transfer.peers_max: must be at least 1 and at most 16, and is 0
    [transfer]
    peers_max = 17
        => blixardd.toml: transfer.peers_max: must be at least 1 and at most 16, and is 17
    [transfer]
    memory_max_mib = 5
        => blixardd.toml: transfer.memory_max_mib: 5 MiB are not enough: each of the 3 nodes that are asked at once takes 2 MiB, so it must be at least 6
    [transfer]
    memory_max_mib = 4097
        => blixardd.toml: transfer.memory_max_mib: must be at most 4096
    [transfer]
    uploads_max = 0
        => blixardd.toml: transfer.uploads_max: must be at least 1 and at most 256, and is 0
    [transfer]
    uploads_max = 257
        => blixardd.toml: transfer.uploads_max: must be at least 1 and at most 256, and is 257
    [transfer]
    uploads_per_node_max = 17
        => blixardd.toml: transfer.uploads_per_node_max: must be at least 1 and at most 16, and is 17
    [transfer]
    fetch_bytes_per_s = 1000
        => blixardd.toml: transfer.fetch_bytes_per_s: 1000 bytes a second are too few: it must be at least 26215
    [transfer]
    send_bytes_per_s = 500000
        => blixardd.toml: transfer.send_bytes_per_s: 500000 bytes a second, shared by 16 uploads, let each look dead to who fetches: it must be at least 838861, or transfer.uploads_max smaller
    [cache]
    listen = "5000"
        => blixardd.toml: cache.listen: "5000" is no address with a port, as 0.0.0.0:5000 is
    [cache]
    key_name = "a:b"
        => blixardd.toml: cache.key_name: "a:b" must have no colon and no space
    [cache]
    token_file = "token"
        => blixardd.toml: cache.token_file: token is not an absolute path
    [log]
    filter = "a=b=c"
        => blixardd.toml: log.filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
    [node
    name
        => blixardd.toml: TOML parse error at line 1, column 6
      |
    1 | [node
      |      ^
    unclosed table, expected `]`
    "#);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/blixardd.toml")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration /nonexistent/blixardd.toml");
}

/// What `modules/blixard` makes; `cargo xtask nix` says whether it still does.
#[test]
fn every_configuration_that_the_module_makes_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checks/offline/snapshots");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
            read += 1;
        }
    }
    assert!(read >= 3, "only {read} configurations were found");
}
