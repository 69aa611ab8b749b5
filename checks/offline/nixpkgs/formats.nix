# Stands in for `pkgs.formats`: TOML written by Nix itself, where nixpkgs has a program for it.
{ lib, pkgs }:
let
  isTable = value: builtins.isAttrs value && !lib.isDerivation value;
  scalar = value: if builtins.isList value then list value else builtins.toJSON value;
  list = values: "[${lib.concatMapStringsSep ", " scalar values}]";
  isKey = name: builtins.match "[A-Za-z0-9_-]+" name != null;
  key = name: if isKey name then name else builtins.toJSON name;

  table =
    path: values:
    let
      scalars = lib.filterAttrs (_: value: !isTable value) values;
      tables = lib.filterAttrs (_: isTable) values;
      heading =
        lib.optionalString (path != [ ] && (scalars != { } || tables == { }))
          "[${lib.concatMapStringsSep "." key path}]\n";
      lines = lib.concatStrings (
        lib.mapAttrsToList (name: value: "${key name} = ${scalar value}\n") scalars
      );
    in
    heading + lines + lib.concatStrings (lib.mapAttrsToList (name: table (path ++ [ name ])) tables);

  value =
    let
      inherit (lib.types)
        attrsOf
        bool
        float
        int
        listOf
        oneOf
        path
        str
        ;
      any = oneOf [
        bool
        int
        float
        str
        path
        (attrsOf any)
        (listOf any)
      ];
    in
    any // { description = "TOML value"; };
in
{
  toml = _: {
    type = lib.types.attrsOf value;
    # The text too, because nothing is built while something is evaluated.
    generate =
      name: settings: pkgs.writeText name (table [ ] settings) // { text = table [ ] settings; };
  };
}
