{
  description = "What Blixard's modules give, as plain data: compared with the snapshots, and refused where it should be";

  # The test kit puts these beside this folder.
  inputs = {
    nixpkgs.url = "path:/root/beside/nixpkgs";
    microvm.url = "path:/root/beside/microvm.nix";
    microvm.inputs.nixpkgs.follows = "nixpkgs";
    microvm.inputs.spectrum.follows = "nixpkgs";
    blixard.url = "path:/root/beside/blixard";
    blixard.inputs.nixpkgs.follows = "nixpkgs";
    blixard.inputs.microvm.follows = "microvm";
  };

  outputs = inputs: {
    # Each becomes a file of `snapshots/`.
    snapshots = import ./snapshots.nix inputs;
    # Each becomes a file of docs/guide/.
    pages = import ./pages.nix inputs;
    # Each has a `value`, whose evaluation must fail, and the words that it `says`.
    refused = import ./refused.nix inputs;
    # What must simply evaluate.
    evaluated = import ./evaluated.nix inputs;
  };
}
