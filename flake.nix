{
  description = "MicroVMs as outputs of a Nix flake, deployed by one command and kept running";

  inputs = {
    nixpkgs.url = "github:nixos/nixpkgs/nixos-unstable";
    microvm.url = "github:microvm-nix/microvm.nix";
    microvm.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      microvm,
    }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = of: lib.genAttrs systems (system: of nixpkgs.legacyPackages.${system} system);
    in
    {
      lib = import ./nix/lib.nix { inherit nixpkgs self systems; };
      overlays.default = final: _: { blixard = final.callPackage ./nix/package.nix { source = self; }; };

      packages = forEach (
        pkgs: system: {
          default = self.packages.${system}.blixard;
          blixard = pkgs.callPackage ./nix/package.nix { source = self; };
          # The same, for `nix run .#blixardd`.
          blixardd = lib.addMetaAttrs { mainProgram = "blixardd"; } self.packages.${system}.blixard;
          docs = pkgs.callPackage ./nix/docs.nix { inherit self nixpkgs; };
        }
      );

      nixosModules = {
        default = self.nixosModules.blixard;
        # For a machine that is to be a node.
        blixard =
          { pkgs, ... }:
          {
            imports = [ ./modules/blixard ];
            services.blixard.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.blixard;
          };
        # For a microVM.
        guest.imports = [
          microvm.nixosModules.microvm
          ./modules/guest
        ];
      };
      vmProfiles = lib.genAttrs [
        "minimal"
        "web"
        "database"
        "worker"
        "builder"
      ] (name: ./vm-profiles + "/${name}.nix");

      # What `nix run .#deploy` deploys.
      microvms = self.lib.mkMicrovms { } { hello = self.vmProfiles.minimal; };
      apps = lib.recursiveUpdate (self.lib.deployApps self) (
        forEach (pkgs: _: { demo = import ./nix/demo.nix { inherit pkgs self; }; })
      );

      templates = {
        default = {
          path = ./templates/default;
          description = "One microVM on one machine";
        };
        fleet = {
          path = ./templates/fleet;
          description = "Three machines and the microVMs on them";
        };
        plain-microvm-nix = {
          path = ./templates/plain-microvm-nix;
          description = "Guests of microvm.nix as they are, deployed by Blixard";
        };
      };

      devShells = forEach (pkgs: _: { default = import ./nix/shell.nix { inherit pkgs; }; });
      formatter = forEach (pkgs: _: pkgs.nixfmt-tree);
      checks = forEach (pkgs: system: import ./checks { inherit pkgs self system; });
    };
}
