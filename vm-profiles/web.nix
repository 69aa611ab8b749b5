# A web server: nginx on port 80, and healthy when it answers. Set the address that its check asks:
#
#   imports = [ blixard.vmProfiles.web ];
#   blixard.profiles.web.address = "10.0.0.2";
#   blixard.vm.interfaces = [ { kind = "tap"; id = "vm-web"; mac = "02:00:00:00:00:02"; } ];
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.blixard.profiles.web;
in
{
  imports = [ ./minimal.nix ];

  options.blixard.profiles.web = {
    address = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "10.0.0.2";
      description = "The guest's address on its host's bridge, where the health check asks. Without one nobody asks.";
    };
    root = lib.mkOption {
      type = lib.types.path;
      default = pkgs.writeTextDir "index.html" "<!DOCTYPE html><title>It works</title><p>A microVM of Blixard.</p>\n";
      defaultText = lib.literalMD "a page that says that it works";
      description = "What is served.";
    };
  };

  config = {
    blixard.vm.health.checks = lib.optional (cfg.address != null) {
      kind = "http";
      address = "${cfg.address}:80";
      path = "/healthz";
    };
    services.nginx = {
      enable = true;
      virtualHosts.default = {
        default = true;
        root = lib.mkDefault cfg.root;
        locations."= /healthz".return = "200 healthy";
      };
    };
    networking.firewall.allowedTCPPorts = [ 80 ];
    systemd.network.networks."20-wired" = lib.mkIf (cfg.address != null) {
      networkConfig.DHCP = "no";
      address = [ "${cfg.address}/24" ];
    };
  };
}
