{
  description = "Guests of microvm.nix as they are, deployed by Blixard";

  inputs = {
    nixpkgs.url = "github:nixos/nixpkgs/nixos-unstable";
    microvm.url = "github:microvm-nix/microvm.nix";
    microvm.inputs.nixpkgs.follows = "nixpkgs";
    blixard.url = "github:blixard/blixard";
    blixard.inputs.nixpkgs.follows = "nixpkgs";
    blixard.inputs.microvm.follows = "microvm";
  };

  outputs =
    {
      self,
      nixpkgs,
      microvm,
      blixard,
    }:
    {
      nixosConfigurations.web = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          microvm.nixosModules.microvm
          ./web.nix
        ];
      };

      # Which of the configurations are deployed; nothing else in this flake knows of Blixard.
      blixard.microvmNix = [ "web" ];
      apps = blixard.lib.deployApps self;
    };
}
