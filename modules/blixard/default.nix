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
      # Guests do not notice a restart.
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
      serviceConfig = import ./service.nix {
        inherit lib;
        inherit (cfg) package;
        credential = cfg.join.tokenFile;
      };
    };

    # Who builds and evaluates goes last.
    systemd.slices.blixardbuild.sliceConfig = {
      CPUWeight = lib.mkDefault 50;
      IOWeight = lib.mkDefault 50;
    };
    systemd.slices.blixard.description = "MicroVMs; what a fence kills";
    systemd.slices.blixardkeep.description = "MicroVMs that go on when their host is cut off";
  };
}
