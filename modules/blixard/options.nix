# `services.blixard`: what a node is told. Every key of blixardd.toml can be set; these are the ones with a type.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.blixard;
  toml = pkgs.formats.toml { };
  role = types.enum [
    "server"
    "host"
    "builder"
  ];

  # A table of blixardd.toml.
  table =
    options:
    mkOption {
      default = { };
      description = "A table of blixardd.toml; docs/blixardd.toml describes every key.";
      type = types.submodule {
        freeformType = toml.type;
        inherit options;
      };
    };
  # A key that is written only if it is set.
  key =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
in
{
  options.services.blixard = {
    enable = lib.mkEnableOption "Blixard, which deploys microVMs that are outputs of a flake";

    package = mkOption {
      type = types.package;
      default = pkgs.blixard;
      defaultText = lib.literalExpression "the flake's own package";
      description = "The programs.";
    };

    roles = mkOption {
      type = types.nonEmptyListOf role;
      default = [
        "server"
        "host"
        "builder"
      ];
      description = ''
        What the machine is for: `server` holds the log and serves the API, `host` runs microVMs, `builder` evaluates flakes and
        builds. A server that is nothing else can be a very small machine.
      '';
    };

    join.tokenFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/blixard-token";
      description = ''
        A file with the token of the cluster that the machine joins, as `blixard cluster token create` prints it there; not read any more once
        it has joined. Without one it is a cluster of its own. A path as text: a path of Nix would be copied to the store, where everybody can
        read it.
      '';
    };

    settings = mkOption {
      default = { };
      example = {
        cluster.listen = "[::]:7440";
        evaluation.memory_max_mib = 8192;
      };
      description = "blixardd.toml. What is not set has the default that docs/blixardd.toml shows.";
      type = types.submodule {
        freeformType = toml.type;
        options = {
          node = table {
            name = key types.str "Its name in the cluster: lower-case letters, digits and `-`. The host name if null.";
            roles = mkOption {
              type = types.listOf role;
              default = cfg.roles;
              defaultText = lib.literalExpression "config.services.blixard.roles";
              description = "What it is for.";
            };
          };
          cluster = table {
            listen = key types.str "Where other nodes reach this one, `[::]:7440`. Without it nothing listens on the network.";
            advertise = key types.str "What it tells them, if that is another address.";
            join_file = mkOption {
              type = types.nullOr types.str;
              default = if cfg.join.tokenFile == null then null else "/run/credentials/blixardd.service/join";
              defaultText = lib.literalMD "where systemd puts `services.blixard.join.tokenFile`";
              description = "The file that the token is read from.";
            };
          };
          cache = table {
            listen = key types.str "Where stock Nix finds this node's binary cache, `[::]:5000`.";
          };
          host = table {
            bridge = key types.str "The bridge that taps are put on whose interface names none.";
            ip_command = mkOption {
              type = types.str;
              default = "${pkgs.iproute2}/bin/ip";
              defaultText = lib.literalExpression ''"''${pkgs.iproute2}/bin/ip"'';
              description = "The program that makes taps.";
            };
          };
          nix = table {
            command = mkOption {
              type = types.str;
              default = "${config.nix.package}/bin/nix";
              defaultText = lib.literalExpression ''"''${config.nix.package}/bin/nix"'';
              description = "The program `nix`.";
            };
            store_command = mkOption {
              type = types.str;
              default = "${config.nix.package}/bin/nix-store";
              defaultText = lib.literalExpression ''"''${config.nix.package}/bin/nix-store"'';
              description = "The program `nix-store`.";
            };
          };
          evaluation = table {
            user = key types.str "The system user that evaluates. A new one for each evaluation if null.";
            memory_max_mib = key types.ints.positive "The memory of one evaluation.";
          };
          builder = table {
            max_jobs = key types.ints.positive "Derivations that are built at once.";
            cores = key types.ints.positive "Cores that each may use.";
          };
          log = table {
            filter = key types.str "Levels by module, as in `info,blixard_host=debug`.";
          };
        };
      };
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the ports of `settings.cluster.listen` and `settings.cache.listen` are opened.";
    };

    bridge = {
      enable = lib.mkEnableOption "a bridge for the taps of microVMs, made by systemd-networkd";
      name = mkOption {
        type = types.strMatching "[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}";
        default = "br-blixard";
        description = "Its name, at most 15 characters.";
      };
      addresses = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "10.0.0.1/24" ];
        description = "The host's own addresses on it. By DHCP if there are none and it has uplinks.";
      };
      uplinks = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "eno1" ];
        description = "Interfaces of the host that are put on it, so that microVMs are on the network of the host.";
      };
    };
  };
}
