# The modules' results as texts: configurations of the daemon, its units, specs, the options of a guest.
inputs:
let
  inherit (import ./machines.nix inputs) lib node guest;
  inherit (inputs) blixard;

  toml = settings: (node settings).config.environment.etc."blixard/blixardd.toml".source.text;

  # Store paths differ from machine to machine.
  plain =
    text:
    lib.concatStrings (
      map (part: if builtins.isList part then "/nix/store/…-" else part) (
        builtins.split "/nix/store/[0-9a-z]{32}-" (builtins.unsafeDiscardStringContext text)
      )
    );

  # A unit as systemd would read it, as far as the daemon's own settings go.
  unit =
    service:
    let
      lines =
        name: value:
        if builtins.isList value then
          lib.concatMapStrings (one: "${name}=${toString one}\n") value
        else if builtins.isBool value then
          "${name}=${lib.boolToString value}\n"
        else
          "${name}=${toString value}\n";
      section = title: settings: "[${title}]\n" + lib.concatStrings (lib.mapAttrsToList lines settings);
    in
    section "Unit" (
      lib.filterAttrs (_: value: value != [ ] && value != "") {
        Description = service.description;
        After = toString service.after;
        Wants = toString service.wants;
      }
      // service.unitConfig or { }
    )
    + "\n"
    + section "Service" service.serviceConfig
    + lib.optionalString (
      service.wantedBy != [ ]
    ) "\n[Install]\nWantedBy=${toString service.wantedBy}\n";

  units = settings: (node settings).config.systemd.services;
  joined = {
    roles = [
      "server"
      "host"
    ];
    openFirewall = true;
    settings = {
      cluster.listen = "[::]:7440";
      cluster.advertise = "alpha.example.org:7440";
      node.labels.zone = "a";
      fencing.profile = "fast";
      host.tenants = [ "shop" ];
      host.hypervisors = [ "qemu" ];
      host.shared_volumes.media = {
        path = "/dev/disk/by-id/media";
        fenced = true;
      };
      host.lease_command = "/run/current-system/sw/bin/blixard-lease";
      cache.listen = "[::]:5000";
      evaluation.memory_max_mib = 8192;
    };
    join.tokenFile = "/run/secrets/token";
    bridge = {
      enable = true;
      addresses = [ "10.0.0.1/24" ];
      uplinks = [ "eno1" ];
    };
  };

  spec = modules: (guest modules).config.blixard.vm.spec;
  text = value: builtins.unsafeDiscardStringContext (builtins.toJSON value);

  # A profile with what it asks of its user.
  profile =
    name: settings:
    spec [
      blixard.vmProfiles.${name}
      (lib.optionalAttrs (settings != { }) { blixard.profiles = settings; })
    ];
in
lib.mapAttrs (_: plain) {
  "blixardd.toml" = toml { };
  "blixardd-bridge.toml" = toml {
    bridge.enable = true;
    settings.node.name = "alpha";
    settings.evaluation.memory_max_mib = 8192;
    settings.builder.max_jobs = 4;
    settings.log.filter = "debug";
  };
  "blixardd-joined.toml" = toml joined;
  "blixardd-server.toml" = toml (
    joined
    // {
      roles = [ "server" ];
      settings.cluster.listen = "10.0.0.1:7440";
    }
  );
  "blixardd.service" = unit (units { }).blixardd;
  "blixard-lease.service" = unit (units joined).blixard-lease;
  "blixard-drain.service" = unit (units { }).blixard-drain;
  "blixard-fence.service" = unit (units joined).blixard-fence;
  "network.json" = text {
    inherit ((node joined).config.systemd.network) netdevs networks;
    firewall = (node joined).config.networking.firewall.allowedTCPPorts;
  };

  "guest-options.json" = text (import ./describe.nix { inherit lib; } (guest [ ]).options.blixard.vm);

  "minimal.spec.json" = text (profile "minimal" { });
  "web.spec.json" = text (profile "web" { web.address = "10.0.0.2"; });
  "database.spec.json" = text (profile "database" { database.address = "10.0.0.3"; });
  "worker.spec.json" = text (profile "worker" { worker.script = "true"; });
  "builder.spec.json" = text (profile "builder" { builder.authorizedKeys = [ "ssh-ed25519 AAAA" ]; });
  "whole.spec.json" = text (spec [
    {
      blixard.vm = {
        tenant = "shop";
        memory = 1024;
        vcpus = 2;
        stopTimeoutMs = 60000;
        health.checks = [
          {
            kind = "tcp";
            address = "10.0.0.2:22";
          }
        ];
        restart.burst = 3;
        placement = {
          constraints = [
            {
              label = "zone";
              operator = "in";
              values = [ "a" ];
            }
          ];
          antiAffinity.app = "web";
          priority = 10;
        };
        update.rollback = false;
        interfaces = [
          {
            kind = "tap";
            id = "vm-web";
            mac = "02:00:00:00:00:02";
            bridge = "br0";
          }
        ];
        volumes = [
          {
            name = "data";
            sizeMib = 100;
            mountPoint = "/data";
          }
        ];
        shares = [
          {
            tag = "ro-store";
            source = "/nix/store";
            protocol = "virtiofs";
            mountPoint = "/nix/.ro-store";
          }
        ];
        vsockCid = 7;
        devices = [ "0000:01:00.0" ];
        credentials.key = "web/key";
        labels.app = "web";
      };
    }
  ]);
}
