# `blixard.vm`: the keys of a spec, and what a NixOS guest needs besides.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  schema = import ./schema.nix { inherit lib; };

  # Of these sets a guest says more than a spec, or less.
  item =
    key: changed:
    mkOption {
      type = types.listOf (
        types.submodule { options = removeAttrs (schema.itemOptions key // changed) [ "multiQueue" ]; }
      );
      default = [ ];
      inherit (schema.root.properties.${key}) description;
    };
  mountPoint = mkOption {
    type = types.path;
    description = "Where the guest mounts it.";
  };
in
{
  options.blixard.vm =
    # What is known only when the runner is, is no option.
    removeAttrs schema.options [
      "schema"
      "notify"
      "canShutdown"
    ]
    // {
      interfaces = item "interfaces" { };
      volumes = mkOption {
        inherit (schema.root.properties.volumes) description;
        default = [ ];
        type = types.listOf (
          types.submodule (
            { config, ... }:
            {
              options = schema.itemOptions "volumes" // {
                inherit mountPoint;
              };
              config.image = lib.mkDefault "${config.name}.img";
              config.fsType = lib.mkDefault "ext4";
            }
          )
        );
      };
      shares = item "shares" { inherit mountPoint; };

      memory = mkOption {
        type = types.ints.positive;
        description = "Memory of the guest in MiB: `resources.memoryMib` in short.";
      };
      vcpus = mkOption {
        type = types.ints.positive;
        default = 1;
        description = "Virtual processors: `resources.vcpus` in short.";
      };
      task = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it runs to completion once: the kind `task` in short.";
      };

      spec = mkOption {
        type = types.attrsOf types.anything;
        readOnly = true;
        description = "The spec that comes of all this.";
      };
      runner = mkOption {
        type = types.package;
        readOnly = true;
        description = "The runner with its spec: the value of `microvms.<name>` in a flake.";
      };
    };
}
