# One machine: the module is on, a flake is deployed, its guest answers.
{ blixard, infra, ... }:
let
  web = {
    imports = [ blixard.vmProfiles.web ];
    blixard.profiles.web.address = "10.79.0.2";
    blixard.vm.interfaces = [
      {
        kind = "tap";
        id = "vm-web";
        mac = "02:00:00:00:00:02";
      }
    ];
  };
in
{
  nodes.machine = {
    imports = [
      ../host.nix
      blixard.nixosModules.blixard
    ];
    virtualisation.additionalPaths = infra.sources ++ infra.runners { inherit web; };
    environment.etc."infra/flake.nix".source = "${infra.flake ''
      {
        web = {
          imports = [ blixard.vmProfiles.web ];
          blixard.profiles.web.address = "10.79.0.2";
          blixard.vm.interfaces = [ { kind = "tap"; id = "vm-web"; mac = "02:00:00:00:00:02"; } ];
        };
      }
    ''}/flake.nix";
  };
}
