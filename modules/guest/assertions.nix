# Combinations that cannot work, each told by the option and with what to do.
{ config, lib, ... }:
let
  cfg = config.blixard.vm;
  check = assertion: message: { inherit assertion message; };
  names = lib.attrNames cfg.credentials;
  isBelow =
    path:
    builtins.match "[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*" path != null
    && !lib.hasSuffix ".cred" path;
  count = list: lib.length (lib.unique list) == lib.length list;
in
{
  assertions = [
    (check (cfg.kind == "task" -> cfg.health.checks == [ ])
      "blixard.vm.health.checks: a task ends when it is done, so nothing can be asked of it; remove the checks, or `blixard.vm.task`."
    )
    (check (lib.all ({ kind, ... }: kind != "macvtap") cfg.interfaces)
      "blixard.vm.interfaces: macvtap is not there yet; use `kind = \"tap\"` and a bridge (`services.blixard.bridge` on the host)."
    )
    (check (count (map ({ id, ... }: id) cfg.interfaces))
      "blixard.vm.interfaces: two interfaces have the same `id`; it names the interface on the host, so each needs its own."
    )
    (check (count (
      map ({ name, ... }: name) cfg.volumes
    )) "blixard.vm.volumes: two volumes have the same `name`; give each its own.")
    (check
      (
        cfg.volumes == [ ]
        || cfg.placement.onPartition == "stop"
        || lib.all ({ kind, ... }: kind != "shared") cfg.volumes
      )
      "blixard.vm.placement.onPartition: a vm that is kept running where nobody sees it must not write to a shared volume; use \"stop\"."
    )
    (check (cfg.hypervisor != "qemu" || cfg.resources.memoryMib != 2048)
      "blixard.vm.memory: QEMU hangs with exactly 2048 MiB (microvm-nix/microvm.nix issue 171); use 2047 or 2049."
    )
    (check (cfg.devices == [ ] || cfg.placement.constraints != [ ])
      "blixard.vm.devices: only some hosts have a device; say which with `blixard.vm.placement.constraints`."
    )
    (check (cfg.credentials == { } || cfg.hypervisor == "qemu")
      "blixard.vm.credentials: ${cfg.hypervisor} cannot hand secrets to its guest; set blixard.vm.hypervisor = \"qemu\", or have the guest fetch them."
    )
    (check (lib.all isBelow (lib.attrValues cfg.credentials)) "blixard.vm.credentials: a secret is a file below the host's directory of the tenant's credentials, as in \"web/key\"; no absolute path, no `..`, and no `.cred` at its end.")
    (check (lib.all (name: lib.stringLength name <= 28) names)
      "blixard.vm.credentials: QEMU takes names of at most 28 letters; shorten ${
        toString (lib.filter (name: lib.stringLength name > 28) names)
      }."
    )
  ];
}
