# `nix run .#demo`: a machine with Blixard and a microVM in it, as a NixOS VM on this terminal.
{ pkgs, self }:
let
  infra = import ../checks/infra.nix {
    inherit pkgs self;
    inherit (self.inputs) nixpkgs microvm;
    inherit (pkgs.stdenv.hostPlatform) system;
  };
  microvms = {
    hello = self.vmProfiles.minimal;
  };
  flake = infra.flake "{ hello = blixard.vmProfiles.minimal; }";

  machine = pkgs.testers.runNixOSTest {
    name = "blixard-demo";
    nodes.machine = {
      imports = [
        ../checks/nixos/host.nix
        self.nixosModules.blixard
      ];
      # There is no network in it: what the guest is evaluated from and made of is there.
      virtualisation.additionalPaths = infra.sources ++ infra.runners microvms;
      environment.etc."infra/flake.nix".source = "${flake}/flake.nix";
      services.getty.autologinUser = "root";
      users.motd = ''
        A machine with Blixard. To deploy a microVM, which is emulated and takes some minutes:
          mkdir infra && cp -L /etc/infra/flake.nix infra/ && nix flake lock ./infra && blixard deploy ./infra
        Then: blixard vm list; blixard vm logs -f hello. `poweroff` ends it all.
      '';
    };
    testScript = "machine.start(); machine.wait_for_unit('blixardd.service')";
  };
in
{
  type = "app";
  program = pkgs.lib.getExe (
    pkgs.writeShellApplication {
      name = "demo";
      text = ''
        echo "A machine with Blixard starts. In the prompt of Python: start_all(), then machine.shell_interact()."
        exec ${machine.driverInteractive}/bin/nixos-test-driver "$@"
      '';
    }
  );
  meta.description = "Try Blixard in a virtual machine";
}
