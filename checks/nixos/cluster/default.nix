# Three machines: founded, joined, deployed to; one dies, and its guest runs on another.
{
  blixard,
  infra,
  lib,
  ...
}:
let
  node =
    {
      founds ? false,
    }:
    { config, ... }:
    {
      imports = [
        ../host.nix
        blixard.nixosModules.blixard
      ];
      services.blixard = {
        openFirewall = true;
        settings.cluster = {
          listen = "[::]:7440";
          advertise = "${config.networking.hostName}:7440";
        };
        join.tokenFile = lib.mkIf (!founds) "/run/blixard-token";
      };
      # Those that join wait for their token.
      systemd.services.blixardd.wantedBy = lib.mkIf (!founds) (lib.mkForce [ ]);
      virtualisation.additionalPaths =
        infra.runners { hello = blixard.vmProfiles.minimal; } ++ lib.optionals founds infra.sources;
    };
in
{
  nodes = {
    alpha = {
      imports = [ (node { founds = true; }) ];
      environment.etc."infra/flake.nix".source =
        "${infra.flake "{ hello = blixard.vmProfiles.minimal; }"}/flake.nix";
    };
    beta = node { };
    gamma = node { };
  };
}
