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
        builds, and is a server too. A server that is nothing else can be a very small machine. A machine with `host` alone holds no log:
        three or five servers serve some hundred of them.
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
        cluster = {
          listen = "[::]:7440";
          advertise = "alpha.example.org:7440";
        };
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
            labels = mkOption {
              type = types.attrsOf types.str;
              default = { };
              example = {
                zone = "a";
              };
              description = "What constraints of microVMs can speak of. Names that begin with `blixard/` are Blixard's own.";
            };
          };
          storage = table {
            data_dir = key types.str "Where the daemon keeps its log and its state, absolute.";
          };
          api = table {
            socket = key types.str "The Unix socket for local callers, absolute.";
            group = key types.str "The group whose members may use it, beside root.";
          };
          fencing = table {
            profile =
              key
                (types.enum [
                  "fast"
                  "default"
                  "relaxed"
                ])
                "Times that go together: how long a host that is cut off may run its microVMs, and when they are started elsewhere.";
            heartbeat_ms = key types.ints.positive "The pause between two heartbeats of a host.";
            lease_ms = key types.ints.positive "How long a host may run its microVMs after its last heartbeat that was answered.";
            grace_ms = key types.ints.positive "How long the kernel may take to end everything then.";
            silence_ms = key types.ints.positive "How long a host is silent before its microVMs are started elsewhere.";
            tick_ms = key types.ints.positive "How often the leader looks.";
          };
          cluster = table {
            listen = key types.str "Where other nodes reach this one, `[::]:7440`. Without it nothing listens on the network.";
            advertise = key types.str "What it tells them, if that is another address.";
            peers = mkOption {
              type = types.attrsOf types.str;
              default = { };
              example = {
                beta = "10.0.0.12:7440";
              };
              description = "Where this node reaches others, by their names, whatever the cluster says: for when most servers have moved at once.";
            };
            join_file = mkOption {
              type = types.nullOr types.str;
              default = cfg.join.tokenFile;
              defaultText = lib.literalExpression "config.services.blixard.join.tokenFile";
              description = "The file that the token is read from.";
            };
          };
          transfer = table {
            fetch_bytes_per_s = key types.ints.positive "Bytes a second that are fetched from all nodes together; as fast as it goes if null.";
            send_bytes_per_s = key types.ints.positive "Bytes a second that are sent to all nodes together; as fast as it goes if null.";
            peers_max = key (types.ints.between 1 16) "Nodes that one closure is fetched from at once.";
            memory_max_mib = key (types.ints.between 2 4096) "The memory for what is on its way from all of them: at least 2 for each.";
            uploads_max = key (types.ints.between 1 256) "Streams that other nodes are sent at once; more wait.";
            uploads_per_node_max = key (types.ints.between 1 256) "Of them, streams to one node.";
          };
          cache = table {
            listen = key types.str "Where stock Nix finds this node's binary cache, `[::]:5000`.";
            key_name = key types.str "The name that its signatures are under.";
            token_file = key types.str "A file with a token that callers need, as text.";
          };
          host = table {
            state_dir = key types.str "Where what outlives a start of a microVM is kept, absolute.";
            runtime_dir = key types.str "Where sockets of microVMs are, below /run.";
            cpu_overcommit = key types.ints.positive "Virtual processors of microVMs per processor, at most.";
            disk_mib = key types.ints.unsigned "The space for volumes; if null, what the file system of `state_dir` has, but for a twentieth of it, 2 GiB at least.";
            tenants = key (types.listOf types.str) "Whose microVMs it takes; everybody's if null or empty.";
            hypervisors = key (types.listOf (
              types.enum [
                "qemu"
                "cloud-hypervisor"
                "firecracker"
                "crosvm"
                "kvmtool"
                "stratovirt"
                "alioth"
              ]
            )) "The hypervisors that may run there; any if null or empty.";
            shared_volumes = mkOption {
              default = { };
              example = {
                media.path = "/dev/disk/by-id/media";
              };
              description = ''
                Volumes of the kind `shared` that this host has, by their names: what other hosts see, too. They are neither made nor
                removed.
              '';
              type = types.attrsOf (
                types.submodule {
                  options = {
                    path = mkOption {
                      type = types.strMatching "/.*";
                      description = "The file or block device, absolute.";
                    };
                    fenced = mkOption {
                      type = types.bool;
                      default = false;
                      description = ''
                        Whether its storage takes no writes of a host that is lost. If not, a microVM whose host is lost waits for that
                        host, or for `blixard volume forget`.
                      '';
                    };
                  };
                }
              );
            };
            lease_command = mkOption {
              type = types.str;
              # Units that run since before an upgrade start it again, when the old package may be collected.
              default = "/run/current-system/sw/bin/blixard-lease";
              description = "The program `blixard-lease`, absolute.";
            };
            credentials_dir = key types.str "Where secrets of microVMs are, absolute: what `blixard.vm.credentials` calls `web/key` is `TENANT/web/key` below it.";
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
            gc_roots = key types.str "The folder of Blixard's garbage collector roots, absolute.";
            store_command = mkOption {
              type = types.str;
              default = "${config.nix.package}/bin/nix-store";
              defaultText = lib.literalExpression ''"''${config.nix.package}/bin/nix-store"'';
              description = "The program `nix-store`.";
            };
          };
          sources = table {
            upload_max_mib = key types.ints.positive "The largest tree that a caller may upload.";
            fetch_time_limit_s = key types.ints.positive "How long fetching one locked input may take.";
          };
          evaluation = table {
            time_limit_s = key types.ints.positive "How long one evaluation may take.";
            output_max_mib = key types.ints.positive "What one evaluation may print.";
            user = key types.str "The system user that evaluates. A new one for each evaluation if null.";
            memory_max_mib = key types.ints.positive "The memory of one evaluation.";
          };
          builder = table {
            timeout_s = key types.ints.positive "How long one build may take.";
            max_silent_s = key types.ints.positive "How long one build may say nothing.";
            log_max_mib = key types.ints.positive "What one build may print.";
            max_jobs = key types.ints.positive "Derivations that are built at once.";
            cores = key types.ints.positive "Cores that each may use.";
          };
          log = table {
            filter = key types.str "Levels by module, as in `info,blixard_host=debug`.";
          };
        };
      };
    };

    caches = mkOption {
      default = [ ];
      example = [
        {
          url = "http://alpha.example.org:5000";
          key = "alpha:1oPEpkhe6jGkqyk+cHAgUwKMiPxDzMVSGGmj2Mkq3HE=";
        }
      ];
      description = ''
        Binary caches of other nodes (`settings.cache.listen` there) that Nix on this machine may take paths from. Blixard itself does not
        need them: it fetches from its nodes what it deploys, and knows it by its contents.
      '';
      type = types.listOf (
        types.submodule {
          options = {
            url = mkOption {
              type = types.str;
              description = "Where the node's cache listens.";
            };
            key = mkOption {
              type = types.strMatching "[^: ]+:[A-Za-z0-9+/]+=*";
              description = "The public key that it signs under, as the file `cache-key.pub` in that node's data directory has it.";
            };
          };
        }
      );
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
