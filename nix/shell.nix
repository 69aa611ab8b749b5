# What a developer needs on NixOS. Test hosts need a Debian machine besides: CONTRIBUTING.md.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.cargo-nextest
    pkgs.clippy
    pkgs.deadnix
    pkgs.nixfmt
    pkgs.rustc
    pkgs.rustfmt
    pkgs.statix
  ];
}
