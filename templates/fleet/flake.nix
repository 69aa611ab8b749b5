{
  description = "Three machines and the microVMs on them";

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
    let
      inherit (nixpkgs) lib;
      machine =
        name: roles:
        lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            blixard.nixosModules.blixard
            ./machine.nix
            {
              networking.hostName = name;
              services.blixard.roles = roles;
              # The first one founds the cluster: `blixard cluster init`, then `blixard cluster token create` for each other.
              services.blixard.join.tokenFile = lib.mkIf (name != "alpha") "/run/secrets/blixard-token";
            }
          ];
        };
      tap = last: name: {
        kind = "tap";
        id = "vm-${name}";
        mac = "02:00:00:00:00:0${toString last}";
      };
    in
    {
      microvms = blixard.lib.mkMicrovms { inherit nixpkgs; } {
        web = {
          imports = [ blixard.vmProfiles.web ];
          blixard.profiles.web.address = "10.0.0.2";
          blixard.vm.interfaces = [ (tap 2 "web") ];
          blixard.vm.labels.app = "web";
        };
        db = {
          imports = [ blixard.vmProfiles.database ];
          blixard.profiles.database.address = "10.0.0.3";
          blixard.vm.interfaces = [ (tap 3 "db") ];
        };
      };
      apps = blixard.lib.deployApps self;

      nixosConfigurations = lib.mapAttrs machine {
        alpha = [
          "server"
          "host"
          "builder"
        ];
        beta = [
          "server"
          "host"
        ];
        # A third vote, on the smallest of machines.
        gamma = [ "server" ];
      };
    };
}
