# Each profile boots and is healthy, alone on a machine.
{ blixard, infra, ... }:
let
  settings = {
    minimal = "{ imports = [ blixard.vmProfiles.minimal ]; }";
    web = "{ imports = [ blixard.vmProfiles.web ]; }";
    database = "{ imports = [ blixard.vmProfiles.database ]; blixard.profiles.database.sizeMib = 512; }";
    worker = "{ imports = [ blixard.vmProfiles.worker ]; blixard.profiles.worker.script = \"echo the work is done\"; }";
    builder = "{ imports = [ blixard.vmProfiles.builder ]; blixard.profiles.builder = { sizeMib = 1024; authorizedKeys = [ \"ssh-ed25519 AAAA\" ]; }; }";
  };
  modules = {
    inherit (blixard.vmProfiles) minimal web;
    database = {
      imports = [ blixard.vmProfiles.database ];
      blixard.profiles.database.sizeMib = 512;
    };
    worker = {
      imports = [ blixard.vmProfiles.worker ];
      blixard.profiles.worker.script = "echo the work is done";
    };
    builder = {
      imports = [ blixard.vmProfiles.builder ];
      blixard.profiles.builder = {
        sizeMib = 1024;
        authorizedKeys = [ "ssh-ed25519 AAAA" ];
      };
    };
  };
  flake = infra.flake "{ ${
    builtins.concatStringsSep " " (
      builtins.attrValues (builtins.mapAttrs (name: code: "${name} = ${code};") settings)
    )
  } }";
in
{
  nodes.machine = {
    imports = [
      ../host.nix
      blixard.nixosModules.blixard
    ];
    virtualisation.memorySize = 12288;
    virtualisation.additionalPaths = infra.sources ++ infra.runners modules;
    environment.etc."infra/flake.nix".source = "${flake}/flake.nix";
  };
}
