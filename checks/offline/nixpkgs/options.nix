# Stands in for the options of NixOS: those that are set or read here, without what they do.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  any =
    default:
    mkOption {
      type = types.anything;
      inherit default;
    };
  # A set of anything, in which these options have types or defaults of their own.
  bag =
    options:
    mkOption {
      default = { };
      type = types.submodule {
        freeformType = types.lazyAttrsOf types.anything;
        inherit options;
      };
    };
  strings = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  unit = types.submodule {
    freeformType = types.attrsOf types.anything;
    options = {
      description = mkOption {
        type = types.str;
        default = "";
      };
      wantedBy = strings;
      after = strings;
      wants = strings;
      serviceConfig = any { };
    };
  };
  units = mkOption {
    type = types.attrsOf unit;
    default = { };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    warnings = strings;
    meta = any { };
    boot = bag {
      blacklistedKernelModules = strings;
      initrd = bag {
        availableKernelModules = strings;
        kernelModules = strings;
        systemd = any { enable = false; };
      };
      kernel = bag { sysctl = any { }; };
      kernelModules = strings;
      kernelPackages = any { };
      kernelParams = strings;
      loader = bag {
        # As there, on unless another is.
        grub = bag { enable = any (!config.boot.loader.systemd-boot.enable or false); };
        systemd-boot = bag { enable = any false; };
      };
      postBootCommands = mkOption {
        type = types.lines;
        default = "";
      };
      swraid = any { };
    };
    documentation = any { };
    environment = bag {
      etc = any { };
      systemPackages = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
    };
    fileSystems = any { };
    hardware = any { };
    networking = bag {
      firewall = bag {
        allowedTCPPorts = mkOption {
          type = types.listOf types.port;
          default = [ ];
        };
        interfaces = any { };
        trustedInterfaces = strings;
      };
      hostId = any null;
      hostName = mkOption {
        type = types.str;
        default = "nixos";
      };
      nat = any { };
      useDHCP = any true;
      useNetworkd = any false;
    };
    nix = bag {
      enable = any true;
      nrBuildUsers = any 32;
      optimise = bag { automatic = any false; };
      package = any pkgs.nix;
      settings = bag {
        auto-optimise-store = any false;
        trusted-public-keys = strings;
      };
    };
    nixpkgs = any { };
    security = bag { virtualisation = any { flushL1DataCache = null; }; };
    # Not one bag: who sets one of them asks for another.
    services = {
      getty = any { };
      nginx = bag { virtualHosts = any { }; };
      openssh = bag { enable = any false; };
      postgresql = bag { };
    };
    swapDevices = any [ ];
    system = bag {
      boot = any {
        loader = {
          kernelFile = "bzImage";
          initrdFile = "initrd";
        };
      };
      build = mkOption {
        type = types.lazyAttrsOf types.unspecified;
        default = { };
      };
      nixos = any { label = "standin"; };
      stateVersion = any "26.05";
      switch = any { enable = false; };
    };
    systemd = bag {
      network = bag {
        enable = any false;
        netdevs = any { };
        networks = any { };
      };
      package = any pkgs.systemd;
      services = units;
      settings = any { };
      slices = any { };
      targets = any { };
      tmpfiles = any { };
    };
    time = any { };
    users = bag {
      groups = any { };
      motd = any null;
      users = any { };
    };
    virtualisation = any { };
  };
}
