# What cannot work, each told by its option and with the cure.
{ config, lib, ... }:
let
  cfg = config.services.blixard;
  is = role: lib.elem role cfg.roles;
  allowed = config.nix.settings.allowed-users or [ "*" ];
  check = assertion: message: { inherit assertion message; };

  # An address that is none: any of this machine's.
  unspecified = lib.any (any: lib.hasPrefix any (toString cfg.settings.cluster.listen)) [
    "0.0.0.0:"
    "[::]:"
    "[::0]:"
  ];
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      (check (cfg.join.tokenFile == null || cfg.settings.cluster.listen != null)
        "services.blixard.join.tokenFile: a node of a cluster is reached by the others; set services.blixard.settings.cluster.listen, as in \"[::]:7440\"."
      )
      (check (cfg.join.tokenFile == null || !lib.hasPrefix builtins.storeDir cfg.join.tokenFile)
        "services.blixard.join.tokenFile: the file is in the store, where everybody can read it; give the path as text, \"/run/secrets/…\"."
      )
      (check (is "server" || !is "builder")
        "services.blixard.roles: a builder has to be a server, because deployments are sent to servers; add \"server\", or remove \"builder\"."
      )
      (check (is "server" || cfg.join.tokenFile != null)
        "services.blixard.join.tokenFile: a machine that is no server founds no cluster; give it a token of the cluster that it is for, as `blixard cluster token create --role host` prints it on a server."
      )
      (check
        (cfg.openFirewall -> cfg.settings.cluster.listen != null || cfg.settings.cache.listen != null)
        "services.blixard.openFirewall: nothing listens, so there is nothing to open; set services.blixard.settings.cluster.listen, or remove openFirewall."
      )
      (check (config.nix.enable) "services.blixard.enable: Blixard needs Nix on each node; set nix.enable.")
      (check
        (
          !(is "builder") || lib.elem "*" allowed || lib.elem (toString cfg.settings.evaluation.user) allowed
        )
        "services.blixard.settings.evaluation.user: nix.settings.allowed-users keeps out the user that evaluates; name one here that is in it, or allow \"*\"."
      )
      (check (!cfg.bridge.enable || is "host")
        "services.blixard.bridge.enable: the bridge is for microVMs, and this machine runs none; add \"host\" to services.blixard.roles, or remove the bridge."
      )
      (check (!cfg.bridge.enable || config.networking.useNetworkd)
        "services.blixard.bridge.enable: the bridge is made by systemd-networkd, and here scripts and dhcpcd configure interfaces, its own among them; set networking.useNetworkd = true, or make a bridge yourself and name it in services.blixard.settings.host.bridge."
      )
      (check
        (
          !lib.any (hidden: lib.hasPrefix hidden (toString cfg.join.tokenFile)) [
            "/home/"
            "/root/"
            "/tmp/"
            "/var/tmp/"
          ]
        )
        "services.blixard.join.tokenFile: the daemon's unit sees nothing below /home, /root and /tmp; put the file below /run or /var/lib, as in \"/run/secrets/…\"."
      )
      (check (!unspecified || cfg.settings.cluster.advertise != null)
        "services.blixard.settings.cluster.advertise: other nodes cannot reach this one at ${toString cfg.settings.cluster.listen}; give a name or an address of it, as in \"${config.networking.hostName}.example.org:7440\"."
      )
      (check
        (
          cfg.settings.api.socket == null
          || !lib.elem (dirOf cfg.settings.api.socket) [
            "/"
            "/run"
            "/tmp"
            "/var"
            "/var/lib"
            "/var/run"
          ]
        )
        "services.blixard.settings.api.socket: the daemon may write to the socket's folder, and this one is everybody's; give the socket a folder of its own, as in \"/run/blixard-api/blixardd.sock\"."
      )
      (check
        (
          !lib.any (hidden: lib.hasPrefix hidden "${toString cfg.settings.host.credentials_dir}/") [
            "/home/"
            "/root/"
            "/tmp/"
            "/var/tmp/"
            "${builtins.storeDir}/"
          ]
        )
        "services.blixard.settings.host.credentials_dir: everybody can read the store, and the daemon's unit sees nothing below /home, /root and /tmp; use a folder below /run or /etc, as in \"/run/secrets/blixard\"."
      )
      (check (cfg.settings.node.roles == cfg.roles)
        "services.blixard.settings.node.roles: set services.blixard.roles instead; the module makes users and devices by it."
      )
    ];
  };
}
