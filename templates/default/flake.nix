{
  description = "One microVM on one machine";

  inputs = {
    nixpkgs.url = "github:nixos/nixpkgs/nixos-unstable";
    blixard.url = "github:blixard/blixard";
    blixard.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      blixard,
    }:
    {
      # `nix run .#deploy` on a machine with Blixard, then `blixard vm list`.
      microvms = blixard.lib.mkMicrovms { inherit nixpkgs; } {
        web = {
          imports = [ blixard.vmProfiles.web ];
          blixard.profiles.web.address = "10.0.0.2";
          blixard.vm = {
            memory = 768;
            interfaces = [
              {
                kind = "tap";
                id = "vm-web";
                mac = "02:00:00:00:00:02";
              }
            ];
          };
        };
      };
      apps = blixard.lib.deployApps self;

      # The machine: `nixos-rebuild switch --flake .#alpha`.
      nixosConfigurations.alpha = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          blixard.nixosModules.blixard
          ./alpha.nix
        ];
      };
    };
}
