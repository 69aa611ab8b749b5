# A machine of the VM tests.
{ lib, ... }:
{
  services.blixard = {
    enable = true;
    bridge = {
      enable = true;
      addresses = [ "10.79.0.1/24" ];
    };
  };
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    substituters = lib.mkForce [ ];
    flake-registry = "";
  };
  virtualisation = {
    cores = 2;
    memorySize = 4096;
    diskSize = 8192;
    writableStore = true;
  };
}
