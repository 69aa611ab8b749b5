# Options from the JSON schema of a spec, which is generated from the Rust types: name, type, limits, default and
# description of each are the same by construction.
{ lib }:
let
  inherit (lib) mkOption types;
  root = lib.importJSON ../../docs/spec-v1.schema.json;
  definition = ref: root."$defs".${lib.removePrefix "#/$defs/" ref};

  # What a reference leads to, with what is said beside it.
  resolve =
    schema:
    if schema ? "$ref" then definition schema."$ref" // removeAttrs schema [ "$ref" ] else schema;

  isNull = schema: (schema.type or null) == "null";
  # Each of a choice of words is a constant; that of kinds of sets has a `kind`.
  isWord = schema: schema ? const;

  typeOf =
    unresolved:
    let
      schema = resolve unresolved;
      choices = schema.oneOf or schema.anyOf or [ ];
      real = lib.filter (choice: !isNull choice) choices;
    in
    if schema ? enum then
      types.enum schema.enum
    else if choices != [ ] && lib.all isWord choices then
      types.enum (map (choice: choice.const) choices)
    else if lib.any isNull choices then
      types.nullOr (typeOf (builtins.head real))
    else if choices != [ ] then
      types.oneOf (map tagged choices)
    else if lib.isList schema.type then
      types.nullOr (typeOf (schema // { type = builtins.head (lib.remove "null" schema.type); }))
    else
      plain.${schema.type} schema;

  # One of several sets, which its `kind` tells from the others.
  tagged =
    schema: types.addCheck (typeOf schema) (set: (set.kind or null) == schema.properties.kind.const);

  plain = {
    boolean = _: types.bool;
    integer =
      schema:
      if schema ? minimum && schema ? maximum then
        types.ints.between schema.minimum schema.maximum
      else if (schema.minimum or (-1)) >= 0 then
        types.addCheck types.ints.unsigned (number: number >= schema.minimum)
      else
        types.int;
    string =
      schema:
      let
        fits =
          text:
          lib.stringLength text >= schema.minLength or 0
          && (schema ? maxLength -> lib.stringLength text <= schema.maxLength);
      in
      if schema ? minLength || schema ? maxLength then
        types.addCheck (letters schema) fits
      else
        letters schema;
    array = schema: types.listOf (typeOf schema.items);
    object =
      schema:
      if schema ? properties then
        types.submodule { options = optionsOf schema; }
      else
        types.attrsOf (typeOf schema.additionalProperties);
  };

  # Texts of the letters that the schema allows, however many.
  letters =
    schema:
    if schema ? const then
      types.enum [ schema.const ]
    else if schema ? pattern then
      types.strMatching (lib.removePrefix "^" (lib.removeSuffix "$" schema.pattern))
    else
      types.str;

  isSection = schema: (schema.type or null) == "object" && schema ? properties;

  # The options of an object; each object in it that is always there is a section.
  optionsOf =
    schema:
    lib.mapAttrs (
      name: unresolved:
      let
        property = resolve unresolved;
        required = lib.elem name (schema.required or [ ]);
      in
      if isSection property then
        optionsOf property
      else
        mkOption (
          {
            type = typeOf unresolved;
            description = property.description or "";
          }
          // lib.optionalAttrs (!required && property ? default) { inherit (property) default; }
        )
    ) schema.properties;
in
{
  inherit root;
  # The options of a whole spec, and those of the sets in one of its lists.
  options = optionsOf root;
  itemOptions = key: optionsOf (resolve root.properties.${key}.items);
}
