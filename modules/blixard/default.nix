# A node: the daemon, what fences it, and what the machine needs to run microVMs.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.blixard;
  is = role: lib.elem role cfg.roles;

  # What is null is not written: the daemon knows its own defaults.
  written =
    value:
    if lib.isAttrs value && !lib.isDerivation value then
      lib.filterAttrs (_: inner: inner != null && inner != { }) (lib.mapAttrs (_: written) value)
    else
      value;
  configuration = (pkgs.formats.toml { }).generate "blixardd.toml" (written cfg.settings);

  # What was put elsewhere, where the unit may not write by itself.
  elsewhere = lib.filter (folder: folder != null) [
    cfg.settings.storage.data_dir
    cfg.settings.host.state_dir
    cfg.settings.nix.gc_roots
    (if cfg.settings.api.socket == null then null else dirOf cfg.settings.api.socket)
  ];
  isBelow = top: folder: folder == top || lib.hasPrefix "${top}/" folder;
  directories = lib.unique (
    lib.filter (folder: !isBelow "/nix" folder && !isBelow "/run/blixard" folder) elsewhere
  );

  portOf = address: lib.toInt (lib.last (lib.splitString ":" address));
  listening = lib.filter (address: address != null) [
    cfg.settings.cluster.listen
    cfg.settings.cache.listen
  ];
in
{
  imports = [
    ./options.nix
    ./assertions.nix
    ./bridge.nix
    ./drain.nix
    ./fencing.nix
  ];

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."blixard/blixardd.toml".source = configuration;

    # Whoever is in it may use the daemon's socket.
    users.groups.blixard = { };
    # What guests of microvm.nix run under.
    users.users.microvm = lib.mkIf (is "host") {
      isSystemUser = true;
      group = "kvm";
      description = "runs microVMs";
    };
    boot.kernelModules = lib.mkIf (is "host") [
      "tun"
      "vhost_net"
      "vhost_vsock"
    ];

    systemd.tmpfiles.settings."10-blixard" = lib.genAttrs directories (_: {
      # What is there already keeps its owner and its mode.
      d = {
        mode = ":0711";
        user = ":root";
        group = ":root";
      };
    });

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall (map portOf listening);

    systemd.services.blixardd = {
      description = "Blixard";
      documentation = [ "https://github.com/blixard/blixard" ];
      wantedBy = [ "multi-user.target" ];
      wants = [
        "nix-daemon.socket"
        "network-online.target"
      ];
      after = [
        "dbus.socket"
        "nix-daemon.socket"
        "network.target"
        "network-online.target"
      ];
      # Guests do not notice a restart, but a host whose daemon is away for the whole of an activation is taken for lost.
      stopIfChanged = false;
      restartTriggers = [ configuration ];
      path = [
        config.nix.package
        pkgs.gitMinimal
        pkgs.iproute2
        # File systems of new volumes.
        pkgs.e2fsprogs
        pkgs.xfsprogs
        pkgs.btrfs-progs
        pkgs.dosfstools
        config.systemd.package
      ];
      # It is never given up: what it lacks at boot, an address above all, comes when it comes.
      unitConfig.StartLimitIntervalSec = 0;
      # Without the disk that its log is on it would take itself for a new machine.
      unitConfig.RequiresMountsFor = [
        "/var/lib/blixard"
      ]
      ++ directories;
      serviceConfig = import ./service.nix {
        inherit (cfg) package;
        inherit directories;
      };
    };

    # Other nodes' binary caches, for whatever else asks Nix on this machine. Blixard itself needs neither: a
    # closure is known by its contents.
    nix.settings = {
      extra-substituters = map (cache: cache.url) cfg.caches;
      extra-trusted-public-keys = map (cache: cache.key) cfg.caches;
    };
    # A user for each derivation that may be built at once.
    nix.nrBuildUsers = lib.mkIf (is "builder" && cfg.settings.builder.max_jobs != null) (
      lib.mkOverride 900 (lib.max 32 cfg.settings.builder.max_jobs)
    );

    # Who builds and evaluates goes last.
    systemd.slices.blixardbuild.sliceConfig = {
      CPUWeight = lib.mkDefault 50;
      IOWeight = lib.mkDefault 50;
    };
    systemd.slices.blixard.description = "MicroVMs; what a fence kills";
    systemd.slices.blixardkeep.description = "MicroVMs that go on when their host is cut off";
  };
}
