# The programs: `blixardd`, `blixard` and what comes to be beside them, with completions and manual pages.
{
  lib,
  rustPlatform,
  installShellFiles,
  source,
}:
let
  manifest = (builtins.fromTOML (builtins.readFile (source + "/Cargo.toml"))).workspace.package;
in
rustPlatform.buildRustPackage {
  pname = "blixard";
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../.cargo
      # Tests parse what the modules give.
      ../checks/offline/snapshots
      ../Cargo.lock
      ../Cargo.toml
      ../clippy.toml
      ../crates
      ../docs
      ../proto
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  # What is for developers is no part of it.
  cargoBuildFlags = map (program: "--package=${program}") [
    "blixardd"
    "blixard-cli"
    "blixard-lease"
  ];
  # The tests that need root, systemd or Nix say that they are skipped in the sandbox.
  cargoTestFlags = [
    "--workspace"
    "--exclude=xtask"
    "--exclude=blixard-testkit"
  ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    $out/bin/blixard man man
    installManPage man/*
    installShellCompletion --cmd blixard \
      --bash <($out/bin/blixard completions bash) \
      --fish <($out/bin/blixard completions fish) \
      --zsh <($out/bin/blixard completions zsh)
    install -Dm644 docs/blixardd.toml docs/spec-v1.schema.json -t $out/share/doc/blixard
  '';

  meta = {
    description = "MicroVMs as outputs of a Nix flake, deployed by one command and kept running";
    homepage = manifest.repository;
    license = lib.licenses.asl20;
    mainProgram = "blixard";
    platforms = lib.platforms.linux;
  };
}
