# What asks microVMs to shut down before their host does: stopped before any of them, the lease, the daemon and the network.
{ config, lib, ... }:
let
  cfg = config.services.blixard;
  drain = "${cfg.package}/bin/blixardd drain";
  directory =
    key: usual: if (cfg.settings.host.${key} or null) == null then usual else cfg.settings.host.${key};
in
{
  config = lib.mkIf (cfg.enable && lib.elem "host" cfg.roles) {
    systemd.services.blixard-drain = {
      description = "Blixard: guests shut down before their host does";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "blixardd.service"
        "blixard-lease.service"
        "dbus.service"
        "network.target"
        "network-online.target"
      ];
      # An upgrade must not shut guests down.
      restartIfChanged = false;
      stopIfChanged = false;
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${drain} --up";
        ExecStop = drain;
        # Guests that were given more time have it: `drain` asks for that.
        TimeoutStopSec = 150;
        NotifyAccess = "exec";
        RuntimeDirectory = "blixard-drain";
        # The daemon, which goes on for a while, finds there that guests are not to be started again.
        RuntimeDirectoryPreserve = true;
        # What asks a guest speaks to a hypervisor that the guest may have taken over.
        CapabilityBoundingSet = [
          "CAP_SETUID"
          "CAP_SETGID"
          "CAP_DAC_OVERRIDE"
          "CAP_KILL"
        ];
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ReadWritePaths = [
          "-${directory "runtime_dir" "/run/blixard-vms"}"
          "-${directory "state_dir" "/var/lib/blixard"}"
        ];
        ProtectHome = true;
        PrivateDevices = true;
        ProtectKernelTunables = true;
        ProtectKernelModules = true;
        ProtectKernelLogs = true;
        ProtectControlGroups = true;
        ProtectClock = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RestrictNamespaces = true;
        LockPersonality = true;
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_VSOCK"
          "AF_INET"
          "AF_INET6"
        ];
      };
    };
  };
}
