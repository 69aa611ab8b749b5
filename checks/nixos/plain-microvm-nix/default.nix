# A flake that was written for microvm.nix and knows nothing of Blixard.
{
  blixard,
  infra,
  pkgs,
  ...
}:
let
  inherit (blixard.inputs) nixpkgs microvm;
  guest = ''
    {
      networking.hostName = "web";
      microvm = {
        mem = 768;
        interfaces = [ { type = "tap"; id = "vm-web"; mac = "02:00:00:00:00:02"; } ];
        shares = [ { tag = "ro-store"; source = "/nix/store"; mountPoint = "/nix/.ro-store"; } ];
      };
      systemd.network.enable = true;
      systemd.network.networks."20-wired" = { matchConfig.Type = "ether"; address = [ "10.79.0.2/24" ]; };
      services.nginx.enable = true;
      networking.firewall.allowedTCPPorts = [ 80 ];
    }
  '';
  flake = pkgs.writeTextDir "flake.nix" ''
    {
      inputs.nixpkgs.url = "path:${nixpkgs}";
      inputs.microvm.url = "path:${microvm}";
      inputs.microvm.inputs.nixpkgs.follows = "nixpkgs";
      inputs.microvm.inputs.spectrum.follows = "nixpkgs";
      outputs = { self, nixpkgs, microvm }: {
        nixosConfigurations.web = nixpkgs.lib.nixosSystem {
          system = "${pkgs.stdenv.hostPlatform.system}";
          modules = [ microvm.nixosModules.microvm (${builtins.readFile ../../emulated.nix}) ${guest} ];
        };
        nixosConfigurations.broken = throw "a machine was evaluated that nobody asked for";
      };
    }
  '';
  # The same outside, so that it is in the machine's store.
  web = nixpkgs.lib.nixosSystem {
    inherit (pkgs.stdenv.hostPlatform) system;
    modules = [
      microvm.nixosModules.microvm
      ../../emulated.nix
      (import (builtins.toFile "web.nix" guest))
    ];
  };
in
{
  nodes.machine = {
    imports = [
      ../host.nix
      blixard.nixosModules.blixard
    ];
    virtualisation.additionalPaths = infra.sources ++ [ web.config.microvm.declaredRunner ];
    environment.etc."infra/flake.nix".source = "${flake}/flake.nix";
  };
}
