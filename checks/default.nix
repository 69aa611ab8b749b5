# `nix flake check`: what can be known without running, and a NixOS VM test for each folder of `nixos/`.
{
  pkgs,
  self,
  system,
}:
let
  inherit (pkgs) lib;
  inherit (self.inputs) nixpkgs microvm;

  folders = lib.attrNames (lib.filterAttrs (_: type: type == "directory") (builtins.readDir ./nixos));
  vmTest =
    name:
    pkgs.testers.runNixOSTest {
      imports = [ (./nixos + "/${name}") ];
      inherit name;
      testScript = builtins.readFile (./nixos + "/${name}/test.py");
      _module.args = {
        blixard = self;
        infra = import ./infra.nix {
          inherit pkgs self system;
          inherit nixpkgs microvm;
        };
      };
    };

  # What must be true of the source alone.
  ofSource =
    name: tools: script:
    pkgs.runCommand "blixard-${name}" { nativeBuildInputs = tools; } ''
      cd ${self}
      ${script}
      touch $out
    '';

  # A template is a flake like any other: its outputs, with the inputs of this one.
  template =
    name: _:
    let
      flake = import (self.templates.${name}.path + "/flake.nix");
      outputs = flake.outputs (
        builtins.intersectAttrs (builtins.functionArgs flake.outputs) {
          inherit nixpkgs microvm;
          blixard = self;
          self = outputs;
        }
      );
      machines = lib.mapAttrsToList (
        _: machine: builtins.unsafeDiscardStringContext machine.config.system.build.toplevel.drvPath
      ) (outputs.nixosConfigurations or { });
      vms = lib.mapAttrsToList (_: vm: builtins.unsafeDiscardStringContext vm.drvPath) (
        outputs.microvms or { }
      );
    in
    lib.nameValuePair "template-${name}" (
      pkgs.writeText "blixard-template-${name}" (
        lib.concatLines (machines ++ vms ++ [ outputs.apps.${system}.deploy.type ])
      )
    );
in
{
  package = self.packages.${system}.blixard;
  options-documentation = self.packages.${system}.docs;
  nix-format = ofSource "nix-format" [ pkgs.nixfmt ] "nixfmt --check $(find . -name '*.nix')";
  nix-dead-code = ofSource "nix-dead-code" [
    pkgs.deadnix
  ] "deadnix --fail --no-lambda-pattern-names .";
}
// lib.mapAttrs' template self.templates
// lib.genAttrs' folders (name: lib.nameValuePair "vm-${name}" (vmTest name))
