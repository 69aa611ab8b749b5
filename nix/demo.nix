# `nix run .#demo`: a machine with Blixard and a microVM in it, as a NixOS VM on this terminal.
{ pkgs, self }:
let
  machine = pkgs.testers.runNixOSTest {
    name = "blixard-demo";
    nodes.machine.imports = [ ../checks/nixos/host.nix ];
    _module.args.blixard = self;
    testScript = "";
  };
in
{
  type = "app";
  program = pkgs.lib.getExe (
    pkgs.writeShellApplication {
      name = "demo";
      text = ''
        echo "A machine with Blixard. In it: blixard deploy ${../.}#hello"
        exec ${machine.driverInteractive}/bin/nixos-test-driver "$@"
      '';
    }
  );
  meta.description = "Try Blixard in a virtual machine";
}
