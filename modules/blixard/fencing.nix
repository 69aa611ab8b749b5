# What stops a host's microVMs when it is cut off from its cluster. A machine by itself has no deadline and none of this.
{ config, lib, ... }:
let
  cfg = config.services.blixard;
  fenced = cfg.enable && lib.elem "host" cfg.roles && cfg.settings.cluster.listen != null;
  lease = "${cfg.package}/bin/blixard-lease";
in
{
  config = lib.mkIf fenced {
    # Below the lease, PID 1 and the kernel: a machine that hangs is reset.
    systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "30s";

    systemd.services = {
      # The holder of deadlines. The daemon starts it with the first grant, not the boot; an upgrade must not restart it.
      blixard-lease = {
        description = "Blixard's lease: kills every vm that may stop when it is over";
        after = [ "blixardd.service" ];
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig = {
          OnFailure = "blixard-fence.service";
          OnFailureJobMode = "replace-irreversibly";
          StartLimitIntervalSec = 0;
        };
        serviceConfig = {
          Type = "notify";
          NotifyAccess = "main";
          ExecStart = "${lease} hold";
          ExecStopPost = "${lease} fence";
          Restart = "no";
          TimeoutStartSec = "3s";
          TimeoutStopSec = "1s";
          WatchdogSec = "10s";
          WatchdogSignal = "SIGKILL";
          Slice = "system.slice";
          RuntimeDirectory = "blixard-lease";
          RuntimeDirectoryMode = "0755";
          CPUSchedulingPolicy = "fifo";
          CPUSchedulingPriority = 50;
          LimitMEMLOCK = "infinity";
          OOMScoreAdjust = -1000;
        };
      };
      # A unit of its own: what a stop of the lease runs dies with it.
      blixard-fence = {
        description = "Blixard's fence: kills every vm that may stop";
        restartIfChanged = false;
        unitConfig = {
          DefaultDependencies = false;
          StartLimitIntervalSec = 0;
        };
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${lease} fence";
          TimeoutStartSec = "3s";
          Slice = "system.slice";
        };
      };
    };
  };
}
