# The bridge that taps are put on.
{ config, lib, ... }:
let
  cfg = config.services.blixard;
  inherit (cfg) bridge;
in
{
  config = lib.mkIf (cfg.enable && bridge.enable) {
    # Two that configure interfaces would take them from each other, and scripts know nothing of a bridge of networkd's.
    networking.useNetworkd = lib.mkDefault true;
    services.blixard.settings.host.bridge = lib.mkDefault bridge.name;

    systemd.network = {
      enable = true;
      netdevs."30-${bridge.name}".netdevConfig = {
        Name = bridge.name;
        Kind = "bridge";
      };
      networks = {
        "30-${bridge.name}" = {
          matchConfig.Name = bridge.name;
          address = bridge.addresses;
          networkConfig = {
            DHCP = if bridge.addresses == [ ] && bridge.uplinks != [ ] then "yes" else "no";
            # A bridge without a port that is up is no reason to wait at boot.
            ConfigureWithoutCarrier = true;
          };
          linkConfig.RequiredForOnline = "no";
        };
      }
      // lib.listToAttrs (
        map (uplink: {
          name = "30-${bridge.name}-${uplink}";
          value = {
            matchConfig.Name = uplink;
            networkConfig.Bridge = bridge.name;
          };
        }) bridge.uplinks
      );
    };
  };
}
