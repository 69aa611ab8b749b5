# A new generation of a guest, one that is not healthy and is taken back, and a daemon that is restarted under running guests.
{ blixard, infra, ... }:
let
  version = text: health: ''
    {
      imports = [ blixard.vmProfiles.minimal ];
      environment.etc."version".text = "${text}";
      blixard.vm.health = ${health};
    }
  '';
  flake = text: health: infra.flake "{ app = ${version text health}; }";
  module = text: health: {
    app = {
      imports = [ blixard.vmProfiles.minimal ];
      environment.etc."version".text = text;
      blixard.vm.health = health;
    };
  };
  # Nobody answers there.
  checks = [
    {
      kind = "tcp";
      address = "10.79.0.99:80";
    }
  ];
in
{
  nodes.machine = {
    imports = [
      ../host.nix
      blixard.nixosModules.blixard
    ];
    virtualisation.additionalPaths =
      infra.sources
      ++ infra.runners (module "one" { })
      ++ infra.runners (module "two" { })
      ++ infra.runners (module "three" { inherit checks; });
    environment.etc = {
      "one/flake.nix".source = "${flake "one" "{ }"}/flake.nix";
      "two/flake.nix".source = "${flake "two" "{ }"}/flake.nix";
      "three/flake.nix".source =
        "${flake "three" "{ checks = [ { kind = \"tcp\"; address = \"10.79.0.99:80\"; } ]; }"}/flake.nix";
    };
  };
}
