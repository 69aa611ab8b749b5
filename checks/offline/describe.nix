# Options as data: type, limits, default, in the words of JSON schema, so that a program can compare them with one.
{ lib }:
let
  describe =
    type:
    let
      bounds = builtins.match "integer between ([0-9]+) and ([0-9]+).*" type.description;
      named = {
        bool.type = "boolean";
        str.type = "string";
        path.type = "string";
        package.type = "package";
        int.type = "integer";
        unsignedInt.type = "integer";
        positiveInt.type = "integer";
        anything.type = "anything";
        enum = {
          type = "string";
          enum = type.functor.payload.values;
        };
        listOf = {
          type = "array";
          items = describe type.nestedTypes.elemType;
        };
        attrsOf = {
          type = "object";
          values = describe type.nestedTypes.elemType;
        };
        nullOr = describe type.nestedTypes.elemType // {
          nullable = true;
        };
        either = {
          type = "either";
          choices = choices type;
        };
        submodule = section (type.getSubOptions [ ]);
      };
    in
    if bounds != null then
      {
        type = "integer";
        minimum = lib.toInt (builtins.head bounds);
        maximum = lib.toInt (lib.last bounds);
      }
    else if lib.hasPrefix "strMatching" type.name then
      {
        type = "string";
        pattern = lib.removeSuffix "\"" (lib.removePrefix "strMatching \"" type.name);
      }
    else
      named.${type.name} or (throw "describe.nix: an option has the type ${type.name}");

  choices =
    type:
    if type.name == "either" then
      choices type.nestedTypes.left ++ choices type.nestedTypes.right
    else
      [ (describe type) ];

  section = options: {
    type = "object";
    properties = lib.mapAttrs (_: option) (removeAttrs options [ "_module" ]);
  };

  option =
    value:
    if lib.isOption value then
      describe value.type
      // lib.optionalAttrs (value ? default) { inherit (value) default; }
      // lib.optionalAttrs (value.readOnly or false) { readOnly = true; }
    else
      section value;
in
section
