# A task: does one thing, says how it went on its console, and powers off.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.blixard.profiles.worker;
in
{
  imports = [ ./minimal.nix ];

  options.blixard.profiles.worker.script = lib.mkOption {
    type = lib.types.lines;
    example = "curl --fail https://example.org/job | run-it";
    description = "What it does. When this ends, whatever its outcome, the guest powers off.";
  };

  config = {
    blixard.vm.task = true;
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
        ExecStopPost = "+${lib.getExe' pkgs.systemd "systemctl"} poweroff --no-block";
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
  };
}
