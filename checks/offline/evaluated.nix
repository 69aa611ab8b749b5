# What must evaluate, as the names of derivations: every template, with the inputs of this flake.
{
  nixpkgs,
  microvm,
  blixard,
  ...
}:
let
  inherit (nixpkgs) lib;
  template =
    name:
    let
      flake = import (blixard.templates.${name}.path + "/flake.nix");
      outputs = flake.outputs (
        builtins.intersectAttrs (builtins.functionArgs flake.outputs) {
          inherit nixpkgs microvm blixard;
          self = outputs;
        }
      );
      toplevel = machine: machine.config.system.build.toplevel.drvPath;
    in
    {
      microvms = lib.mapAttrs (_: vm: vm.drvPath) (outputs.microvms or { });
      machines = lib.mapAttrs (_: toplevel) outputs.nixosConfigurations;
      app = outputs.apps.x86_64-linux.deploy.program;
    };
in
{
  templates = lib.mapAttrs (name: _: template name) blixard.templates;
  disabled =
    (lib.nixosSystem {
      modules = [
        blixard.nixosModules.blixard
        {
          fileSystems."/" = { };
          boot.loader.grub.enable = false;
        }
      ];
    }).config.system.build.toplevel.drvPath;
}
