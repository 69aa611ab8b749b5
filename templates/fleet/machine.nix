# What all three have.
{ config, lib, ... }:
{
  imports = [ ./hardware-configuration.nix ];
  services.blixard = {
    enable = true;
    openFirewall = true;
    settings.cluster = {
      listen = "[::]:7440";
      # A name of this machine that the others know, or an address.
      advertise = "${config.networking.hostName}:7440";
    };
    bridge = lib.mkIf (lib.elem "host" config.services.blixard.roles) {
      enable = true;
      uplinks = [ "eno1" ];
    };
  };
  system.stateVersion = "26.05";
}
