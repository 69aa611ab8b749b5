# The pages of the guide, with one for each module that is made of its options.
{
  lib,
  runCommand,
  nixosOptionsDoc,
  self,
  nixpkgs,
}:
let
  evaluated =
    modules:
    lib.evalModules {
      modules = modules ++ [
        {
          options._module.args = lib.mkOption { internal = true; };
          config._module = {
            check = false;
            args.pkgs = self.inputs.nixpkgs.legacyPackages.x86_64-linux;
          };
        }
      ];
    };
  page =
    prefix: modules:
    (nixosOptionsDoc {
      options = lib.getAttrFromPath prefix (evaluated modules).options;
      warningsAreErrors = true;
    }).optionsCommonMark;
in
runCommand "blixard-docs" { } ''
  mkdir -p $out/share/doc/blixard
  cp -r ${../docs}/. $out/share/doc/blixard
  chmod -R u+w $out/share/doc/blixard
  cp ${
    page [ "services" "blixard" ] [ ../modules/blixard/options.nix ]
  } $out/share/doc/blixard/guide/options-host.md
  cp ${
    page [ "blixard" "vm" ] [ ../modules/guest/options.nix ]
  } $out/share/doc/blixard/guide/options-guest.md
''
