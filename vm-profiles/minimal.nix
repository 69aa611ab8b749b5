# The least of a guest: it boots, and whoever may use the host may look at its console.
{ lib, ... }:
{
  # Weaker than the default of a profile that is made of this one.
  blixard.vm.memory = lib.mkOverride 1100 512;

  # Nothing in a microVM is installed by hand, and nothing is read in it.
  documentation.enable = lib.mkDefault false;
  boot.initrd.systemd.enable = lib.mkDefault true;
  system.stateVersion = lib.mkDefault lib.trivial.release;

  # Of addresses a guest knows nothing; what is on its wire tells them.
  networking.useNetworkd = lib.mkDefault true;
  systemd.network.networks."20-wired" = {
    matchConfig.Type = "ether";
    networkConfig.DHCP = lib.mkDefault "yes";
  };
}
