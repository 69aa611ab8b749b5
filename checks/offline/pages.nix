# The pages of the guide that are made of the modules' options.
inputs:
let
  inherit (import ./machines.nix inputs) lib node guest;

  shown =
    value:
    if value._type or "" == "literalExpression" || value._type or "" == "literalMD" then
      value.text
    else
      builtins.toJSON value;
  line = title: value: lib.optionalString (value != null) "- ${title}: ${value}\n";
  code =
    text:
    "`${
      lib.concatStringsSep " " (
        lib.filter (word: word != "") (lib.splitString " " (lib.replaceStrings [ "\n" ] [ " " ] text))
      )
    }`";

  entry = option: ''
    ## `${option.name}`

    ${lib.trim (option.description.text or (toString option.description))}

    ${line "type" option.type}${
      line "default" (if option ? default then code (shown option.default) else null)
    }${line "example" (if option ? example then code (shown option.example) else null)}'';

  page =
    title: options:
    let
      visible = lib.filter (option: option.visible && !option.internal) (
        lib.optionAttrSetToDocList options
      );
    in
    "# ${title}\n\n<!-- Made of the modules by `cargo xtask nix --update`. -->\n\n"
    + lib.concatMapStringsSep "\n" entry visible;
in
lib.mapAttrs (_: builtins.unsafeDiscardStringContext) {
  "options-host.md" = page "Options of a node" (node { }).options.services.blixard;
  "options-guest.md" = page "Options of a microVM" (guest [ ]).options.blixard.vm;
}
