# A builder for Nix that can be thrown away: a store that is written to, on a volume of its own.
{ config, lib, ... }:
let
  cfg = config.blixard.profiles.builder;
in
{
  imports = [ ./minimal.nix ];

  options.blixard.profiles.builder = {
    sizeMib = lib.mkOption {
      type = lib.types.ints.positive;
      default = 20480;
      description = "The size of the volume in MiB.";
    };
    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "SSH keys of those who may build here, as the user `builder`.";
    };
  };

  config = {
    assertions = [
      {
        assertion = cfg.authorizedKeys != [ ];
        message = "blixard.profiles.builder.authorizedKeys: without a key nobody can build here; add one.";
      }
    ];
    blixard.vm = {
      memory = lib.mkDefault 4096;
      vcpus = lib.mkDefault 4;
      volumes = [
        {
          name = "store";
          # What was built is built again.
          kind = "ephemeral";
          inherit (cfg) sizeMib;
          mountPoint = config.microvm.writableStoreOverlay;
        }
      ];
    };
    microvm.writableStoreOverlay = "/nix/.rw-store";
    nix.settings.trusted-users = [ "builder" ];
    services.openssh.enable = true;
    users.users.builder = {
      isNormalUser = true;
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
    };
  };
}
