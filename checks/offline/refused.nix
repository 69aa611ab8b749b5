# Wrong settings: each `value` must fail with what it `says`.
inputs:
let
  inherit (import ./machines.nix inputs) lib node guest;
  inherit (inputs) blixard;

  # A real system reads all of these; the stand-in has to be told.
  whole =
    { config, ... }:
    builtins.toJSON [
      (removeAttrs (config.services.blixard or { }) [ "package" ])
      (config.blixard.vm.spec or null)
      config.systemd.network
      config.systemd.services
    ];
  of = machine: says: {
    value = builtins.seq machine.config.system.build.toplevel.drvPath (whole machine);
    inherit says;
  };
  ofNode = settings: of (node settings);
  ofGuest =
    settings:
    of (guest [
      {
        blixard.vm = {
          memory = 512;
        }
        // settings;
      }
    ]);
  tap = {
    kind = "tap";
    id = "vm-web";
    mac = "02:00:00:00:00:02";
  };
  volume = {
    name = "data";
    sizeMib = 1;
    mountPoint = "/data";
  };
in
{
  # A node.
  role = ofNode { roles = [ "cook" ]; } "services.blixard.roles";
  no-roles = ofNode { roles = [ ]; } "services.blixard.roles";
  type-of-a-setting = ofNode {
    settings.builder.cores = "many";
  } "services.blixard.settings.builder.cores";
  unknown-option = ofNode { sttings = { }; } "services.blixard.sttings";
  bridge-name = ofNode {
    bridge.enable = true;
    bridge.name = "a-name-of-16-chars";
  } "services.blixard.bridge.name";
  join-without-listen = ofNode {
    join.tokenFile = "/run/token";
  } "services.blixard.join.tokenFile: a node of a cluster is reached by the others";
  token-in-the-store = ofNode {
    join.tokenFile = "${./refused.nix}";
    settings.cluster.listen = "[::]:7440";
  } "services.blixard.join.tokenFile: the file is in the store";
  alone-and-no-server = ofNode {
    roles = [ "host" ];
  } "services.blixard.join.tokenFile: a machine that is no server founds no cluster";
  builder-and-no-server = ofNode {
    roles = [
      "host"
      "builder"
    ];
    join.tokenFile = "/run/token";
    settings.cluster.listen = "10.0.0.1:7440";
  } "services.blixard.roles: a builder has to be a server";
  listens-anywhere = ofNode {
    settings.cluster.listen = "[::]:7440";
  } "services.blixard.settings.cluster.advertise: other nodes cannot reach this one at [::]:7440";
  profile-of-leases = ofNode {
    settings.fencing.profile = "quick";
  } "services.blixard.settings.fencing.profile";
  label-of-a-number = ofNode {
    settings.node.labels.zone = 1;
  } "services.blixard.settings.node.labels.zone";
  shared-volume-anywhere = ofNode {
    settings.host.shared_volumes.media.path = "media.img";
  } "services.blixard.settings.host.shared_volumes.media.path";
  shared-volume-without-a-path = ofNode {
    settings.host.shared_volumes.media.fenced = true;
  } "services.blixard.settings.host.shared_volumes.media.path";
  socket-among-others = ofNode {
    settings.api.socket = "/run/blixardd.sock";
  } "services.blixard.settings.api.socket: the daemon may write to the socket's folder";
  token-out-of-sight = ofNode {
    join.tokenFile = "/root/token";
    settings.cluster.listen = "10.0.0.1:7440";
  } "services.blixard.join.tokenFile: the daemon's unit sees nothing below /home, /root and /tmp";
  secrets-out-of-sight = ofNode {
    settings.host.credentials_dir = "/root/credentials";
  } "services.blixard.settings.host.credentials_dir: everybody can read the store";
  secrets-in-the-store = ofNode {
    settings.host.credentials_dir = "${./.}";
  } "services.blixard.settings.host.credentials_dir: everybody can read the store";
  cache-without-a-key = ofNode {
    caches = [ { url = "http://alpha:5000"; } ];
  } "services.blixard.caches";
  bridge-among-scripts = of (lib.nixosSystem {
    modules = [
      blixard.nixosModules.blixard
      {
        services.blixard.enable = true;
        services.blixard.bridge.enable = true;
        networking.useNetworkd = false;
        fileSystems."/" = { };
        boot.loader.grub.enable = false;
      }
    ];
  }) "services.blixard.bridge.enable: the bridge is made by systemd-networkd";
  nothing-to-open = ofNode { openFirewall = true; } "services.blixard.openFirewall: nothing listens";
  bridge-without-host = ofNode {
    roles = [ "server" ];
    bridge.enable = true;
  } "services.blixard.bridge.enable: the bridge is for microVMs";
  roles-twice = ofNode { settings.node.roles = [ "server" ]; } "set services.blixard.roles instead";
  without-nix = of (lib.nixosSystem {
    modules = [
      blixard.nixosModules.blixard
      {
        services.blixard.enable = true;
        fileSystems."/" = { };
        boot.loader.grub.enable = false;
        nix.enable = false;
      }
    ];
  }) "services.blixard.enable: Blixard needs Nix";
  evaluator-kept-out = of (lib.nixosSystem {
    modules = [
      blixard.nixosModules.blixard
      {
        services.blixard.enable = true;
        fileSystems."/" = { };
        boot.loader.grub.enable = false;
        nix.settings.allowed-users = [ "@wheel" ];
      }
    ];
  }) "services.blixard.settings.evaluation.user: nix.settings.allowed-users keeps out";

  # A guest.
  no-memory = of (guest [ ]) "blixard.vm.memory";
  memory-of-text = ofGuest { memory = "512"; } "blixard.vm.memory";
  too-many-vcpus = ofGuest { vcpus = 2000; } "blixard.vm.resources.vcpus";
  hypervisor = ofGuest { hypervisor = "xen"; } "blixard.vm.hypervisor";
  tenant = ofGuest { tenant = "../etc"; } "blixard.vm.tenant";
  unknown-key = ofGuest { memoryy = 1; } "blixard.vm.memoryy";
  check-of-no-kind = ofGuest { health.checks = [ { kind = "ping"; } ]; } "blixard.vm.health.checks";
  mac = ofGuest { interfaces = [ (tap // { mac = "2:0:0:0:0:2"; }) ]; } "mac";
  task-with-checks = ofGuest {
    task = true;
    health.checks = [
      {
        kind = "tcp";
        address = "10.0.0.2:80";
      }
    ];
  } "blixard.vm.health.checks: a task ends";
  macvtap = ofGuest {
    interfaces = [ (tap // { kind = "macvtap"; }) ];
  } "blixard.vm.interfaces: macvtap is not there yet";
  label-of-17-letters = ofGuest {
    volumes = [ (volume // { label = "aaaaaaaaaaaaaaaaa"; }) ];
  } "blixard.vm.volumes";
  interface-twice = ofGuest {
    interfaces = [
      tap
      tap
    ];
  } "blixard.vm.interfaces: two interfaces have the same `id`";
  volume-twice = ofGuest {
    volumes = [
      volume
      (volume // { image = "other.img"; })
    ];
  } "blixard.vm.volumes: two volumes have the same `name`";
  kept-and-shared = ofGuest {
    placement.onPartition = "keep";
    volumes = [ (volume // { kind = "shared"; }) ];
  } "blixard.vm.placement.onPartition: a vm that is kept running";
  two-gigabytes = ofGuest { memory = 2048; } "blixard.vm.memory: QEMU hangs";
  device-anywhere = ofGuest { devices = [ "0000:01:00.0" ]; } "blixard.vm.devices: only some hosts";
  secret-for-another-hypervisor =
    ofGuest
      {
        hypervisor = "cloud-hypervisor";
        credentials.key = "web/key";
      }
      "blixard.vm.credentials: cloud-hypervisor cannot hand secrets to its guest; set blixard.vm.hypervisor";
  secret-anywhere = ofGuest {
    credentials.key = "/etc/shadow";
  } "blixard.vm.credentials: a secret is a file below the host's directory";
  secret-with-a-long-name = ofGuest {
    credentials.a-name-of-more-than-28-letters = "web/key";
  } "blixard.vm.credentials: QEMU takes names of at most 28 letters";
  builder-without-keys = of (guest [
    blixard.vmProfiles.builder
  ]) "blixard.profiles.builder.authorizedKeys";
  worker-without-work = of (guest [ blixard.vmProfiles.worker ]) "blixard.profiles.worker.script";

  # A flake.
  nothing-to-deploy = {
    value = (blixard.lib.deployApps { }).x86_64-linux.deploy.program;
    says = "deployApps: the flake has neither the output `microvms` nor `blixard.microvmNix`";
  };
}
