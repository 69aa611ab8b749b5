# What a user's flake calls.
{
  nixpkgs,
  self,
  systems,
}:
let
  inherit (nixpkgs) lib;
  nixpkgs' = nixpkgs;
in
{
  /**
    MicroVMs of modules: the value of a flake's output `microvms`.

    `mkMicrovms { } { web = { imports = [ blixard.vmProfiles.web ]; }; }`

    The first argument has, if need be: `nixpkgs`, another than Blixard's; `system`, "x86_64-linux" if absent;
    `modules` for all of them; `specialArgs`.
  */
  mkMicrovms =
    {
      nixpkgs ? nixpkgs',
      system ? "x86_64-linux",
      modules ? [ ],
      specialArgs ? { },
    }:
    let
      machine =
        name: module:
        nixpkgs.lib.nixosSystem {
          inherit system specialArgs;
          modules = [
            self.nixosModules.guest
            { networking.hostName = lib.mkDefault name; }
            module
          ]
          ++ modules;
        };
    in
    lib.mapAttrs (name: module: (machine name module).config.blixard.vm.runner);

  /**
    `apps.<system>.deploy` for a flake with microVMs: `apps = blixard.lib.deployApps self;`

    It deploys the flake of the directory it is run in, so that a change needs no commit; arguments are passed on to
    `blixard deploy`.
  */
  deployApps =
    flake:
    assert lib.assertMsg (flake ? microvms || flake ? blixard.microvmNix)
      "deployApps: the flake has neither the output `microvms` nor `blixard.microvmNix`, so there is nothing to deploy";
    lib.genAttrs systems (system: {
      deploy = {
        type = "app";
        program = lib.getExe (
          nixpkgs.legacyPackages.${system}.writeShellApplication {
            name = "deploy";
            runtimeInputs = [ self.packages.${system}.blixard ];
            text = ''exec blixard deploy "$@"'';
          }
        );
        meta.description = "Deploy the microVMs of this flake";
      };
    });
}
