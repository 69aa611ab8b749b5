# A task: does one thing, says on its console how that goes, and powers off. Where that fails the guest panics, which
# under QEMU is how Blixard hears of it: the runner ends with an error, and the task is run again.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.blixard.profiles.worker;
  # Other hypervisors tell nobody how their guests end.
  panics = config.blixard.vm.hypervisor == "qemu";
  poweroff = "exec ${lib.getExe' pkgs.systemd "systemctl"} poweroff --no-block";
  end =
    if panics then
      ''
        if [ "$SERVICE_RESULT" = success ]; then ${poweroff}; fi
        ${lib.getExe' pkgs.coreutils "sync"}
        echo c > /proc/sysrq-trigger
      ''
    else
      poweroff;
in
{
  imports = [ ./minimal.nix ];

  options.blixard.profiles.worker.script = lib.mkOption {
    type = lib.types.lines;
    example = "curl --fail https://example.org/job | run-it";
    description = "What it does, perhaps more than once: when its host is lost it runs again elsewhere. The guest powers off when it ends with status 0.";
  };

  config = {
    blixard.vm.task = true;
    microvm.qemu.extraArgs = lib.mkIf panics [
      "-device"
      "pvpanic-pci"
      "-action"
      "panic=exit-failure"
    ];
    boot.kernelModules = lib.mkIf panics [ "pvpanic-pci" ];
    # microvm.nix waits for no network; here a script may need it.
    systemd.network.wait-online.enable = lib.mkOverride 900 (config.blixard.vm.interfaces != [ ]);
    systemd.services.blixard-worker = {
      description = "What this guest is for";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = pkgs.writeShellScript "worker" cfg.script;
        ExecStopPost = "+${pkgs.writeShellScript "worker-end" end}";
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
  };
}
