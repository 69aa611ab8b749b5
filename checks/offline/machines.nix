# Small words for the cases: a node, and a guest.
{ nixpkgs, blixard, ... }:
let
  inherit (nixpkgs) lib;
  system =
    modules:
    lib.nixosSystem {
      system = "x86_64-linux";
      inherit modules;
    };
in
{
  inherit lib;
  node =
    settings:
    system [
      blixard.nixosModules.blixard
      {
        networking.hostName = "alpha";
        fileSystems."/" = { };
        boot.loader.grub.enable = false;
      }
      {
        services.blixard = {
          enable = true;
        }
        // settings;
      }
    ];
  guest =
    modules:
    system (
      [
        blixard.nixosModules.guest
        { networking.hostName = "web"; }
      ]
      ++ modules
    );
}
