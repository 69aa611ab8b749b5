# PostgreSQL on a volume, which stays where it was made: the vm is placed on that host again, or waits for it.
# Who may log in from elsewhere is the user's to say, in `services.postgresql.authentication`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.blixard.profiles.database;
in
{
  imports = [ ./minimal.nix ];

  options.blixard.profiles.database = {
    sizeMib = lib.mkOption {
      type = lib.types.ints.positive;
      default = 4096;
      description = "The size of the volume in MiB.";
    };
    address = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "10.0.0.3";
      description = "The guest's address on its host's bridge, where the health check asks. Without one nobody asks.";
    };
  };

  config = {
    blixard.vm = {
      memory = lib.mkDefault 1024;
      # A database is not killed in the middle of its last checkpoint.
      stopTimeoutMs = lib.mkDefault 120000;
      volumes = [
        {
          name = "postgresql";
          inherit (cfg) sizeMib;
          mountPoint = "/var/lib/postgresql";
        }
      ];
      health.checks = lib.optional (cfg.address != null) {
        kind = "tcp";
        address = "${cfg.address}:5432";
      };
    };
    services.postgresql = {
      enable = true;
      # What is on the volume belongs to one major version: another is taken on purpose, with `pg_upgrade`, not with
      # the next nixpkgs.
      package = lib.mkDefault pkgs.postgresql_17;
      enableTCPIP = lib.mkDefault (cfg.address != null);
    };
    networking.firewall.allowedTCPPorts = lib.mkIf (cfg.address != null) [ 5432 ];
    systemd.network.networks."20-wired" = lib.mkIf (cfg.address != null) {
      networkConfig.DHCP = "no";
      address = [ "${cfg.address}/24" ];
    };
  };
}
