# Applied to a flake's `microvms`: what Blixard asks of its vms. Gives a list, because an attribute set
# with an attribute `outPath` would be printed as that string; for the same reason a vm's own path is
# called `out`. Without their context, the paths are plain strings and nothing is built for them; the
# derivations are written to the store all the same.
{ names }:
microvms:
let
  asked = if names == null then builtins.attrNames microvms else names;
  missing = builtins.filter (name: !(builtins.hasAttr name microvms)) asked;
  describe =
    attribute:
    let
      vm = builtins.getAttr attribute microvms;
    in
    {
      inherit attribute;
      inherit (vm) system;
      drv = builtins.unsafeDiscardStringContext vm.drvPath;
      out = builtins.unsafeDiscardStringContext vm.outPath;
      spec = vm.blixard or null;
    };
in
{
  inherit missing;
  vms = if missing == [ ] then map describe asked else [ ];
}
