# A guest of the VM tests: there is no KVM within KVM that one could count on, so it is emulated.
#
# It is evaluated twice, outside of the machine, so that what it needs is in its store, and in it, where nixpkgs
# is a path and so has another version than where it was locked. What tells the version would make two derivations
# of it, and the second cannot be built without a network.
{ lib, pkgs, ... }:
{
  microvm = {
    cpu = "max";
    qemu.machine = "q35";
    qemu.machineOpts = {
      accel = "tcg";
      # microvm.nix brings one; with two, what is asked of the guest reaches the other.
      i8042 = "off";
    };
    # The one that the tests' machines themselves run in.
    qemu.package = pkgs.qemu_test;
  };
  system.nixos.versionSuffix = lib.mkForce "";
  system.nixos.revision = lib.mkForce null;
}
