# A user's flake for the VM tests. They have no network, so its inputs are paths of the store.
{
  pkgs,
  self,
  system,
  nixpkgs,
  microvm,
}:
{
  /**
    A flake with these `microvms`, Nix code that may use `blixard`. Also what it needs is in the store of a machine
    that has it.
  */
  flake =
    microvms:
    pkgs.writeTextDir "flake.nix" ''
      {
        inputs = {
          nixpkgs.url = "path:${nixpkgs}";
          blixard.url = "path:${self}";
          blixard.inputs.nixpkgs.follows = "nixpkgs";
          blixard.inputs.microvm.follows = "microvm";
          microvm.url = "path:${microvm}";
          microvm.inputs.nixpkgs.follows = "nixpkgs";
          microvm.inputs.spectrum.follows = "nixpkgs";
        };
        outputs = { self, nixpkgs, blixard, microvm }: {
          microvms = blixard.lib.mkMicrovms {
            inherit nixpkgs;
            system = "${system}";
            modules = [ (blixard + "/checks/emulated.nix") (blixard + "/checks/patient.nix") ];
          } ${microvms};
        };
      }
    '';

  /**
    The runners of these modules, to be in the store of a machine: without a network nothing of them can be built there.
  */
  runners =
    modules:
    builtins.attrValues (
      self.lib.mkMicrovms {
        inherit system;
        modules = [
          ./emulated.nix
          ./patient.nix
        ];
      } modules
    );

  # What evaluating such a flake reads.
  sources = [
    nixpkgs
    microvm
    self
  ];
}
