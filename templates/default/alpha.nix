{
  imports = [ ./hardware-configuration.nix ];
  networking.hostName = "alpha";
  services.blixard = {
    enable = true;
    bridge = {
      enable = true;
      addresses = [ "10.0.0.1/24" ];
    };
  };
  system.stateVersion = "26.05";
}
