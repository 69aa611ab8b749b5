{
  description = "Stands in for nixpkgs where that cannot be fetched";

  # The test kit puts beside this file: `lib/` of nixpkgs, and in `boot/` a kernel with a few of its modules.
  outputs =
    { self }:
    let
      lib = (import ./lib).extend (
        final: _: {
          nixosSystem =
            {
              modules,
              system ? "x86_64-linux",
              specialArgs ? { },
              ...
            }:
            let
              evaluated = final.evalModules {
                class = "nixos";
                specialArgs = {
                  modulesPath = "${./.}/nixos/modules";
                }
                // specialArgs;
                modules = [
                  ./options.nix
                  ./guest.nix
                  { _module.args.pkgs = final.mkDefault packages.${system}; }
                ]
                ++ modules;
              };
            in
            evaluated // { inherit (evaluated._module.args) pkgs; };
        }
      );
      packages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (system: import ./packages.nix { inherit lib system; });
    in
    {
      inherit lib;
      legacyPackages = packages;
    };
}
