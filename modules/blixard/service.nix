# The daemon's unit, and why each thing that `systemd-analyze security` would rather see closed is open.
{
  package,
  # Folders that the daemon was told to write to, besides its own.
  directories,
}:
{
  Type = "notify";
  ExecStart = "${package}/bin/blixardd --config /etc/blixard/blixardd.toml";
  Restart = "on-failure";
  # At boot its address may not be there yet; within a second it usually is.
  RestartSec = "1s";
  # A configuration that is wrong does not mend itself.
  RestartPreventExitStatus = 78;
  StateDirectory = "blixard";
  # Accounts of microVMs pass through it to their own directories, and list nothing.
  StateDirectoryMode = "0711";
  RuntimeDirectory = [
    "blixard"
    "blixard-epochs"
  ];
  # The next daemon, and what this one has left to start, find there which epochs are over.
  RuntimeDirectoryPreserve = true;
  UMask = "0077";
  LimitNOFILE = 65536;

  # Root, because the store is written, units are started, and directories given away. Of root's rights:
  CapabilityBoundingSet = [
    # directories and roots of others, and sockets of a group
    "CAP_CHOWN"
    "CAP_DAC_OVERRIDE"
    "CAP_DAC_READ_SEARCH"
    "CAP_FOWNER"
    # taps
    "CAP_NET_ADMIN"
    # the unit's own processes, and the wait for those of a guest
    "CAP_KILL"
    # a store that is mounted read-only, as on NixOS, is mounted anew for whoever imports a closure
    "CAP_SYS_ADMIN"
    # Nix takes the identity of whoever connects
    "CAP_SETGID"
    "CAP_SETUID"
  ];
  NoNewPrivileges = true;

  ProtectSystem = "strict";
  ReadWritePaths = [
    # roots, and closures from other nodes
    "/nix"
  ]
  ++ directories;
  ProtectHome = true;
  PrivateTmp = true;
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHostname = true;
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  ProtectKernelTunables = true;

  # Whether KVM can be used is found out by opening it; taps are made through the other.
  DevicePolicy = "closed";
  DeviceAllow = [
    "/dev/kvm rw"
    "/dev/net/tun rw"
  ];

  LockPersonality = true;
  MemoryDenyWriteExecute = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  # Whoever imports a closure mounts the store for itself alone, as above, and has no network.
  RestrictNamespaces = "mnt net";
  RestrictAddressFamilies = [
    "AF_UNIX"
    # callers, peers, health checks
    "AF_INET"
    "AF_INET6"
    # taps
    "AF_NETLINK"
  ];
  SystemCallArchitectures = "native";
  SystemCallFilter = [
    "@system-service"
    "@mount"
  ];
  SystemCallErrorNumber = "EPERM";
}
