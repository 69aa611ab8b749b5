# Applied to the outputs of a flake: what Blixard asks of its vms. Gives lists, because an attribute set
# with an attribute `outPath` would be printed as that string; for the same reason a vm's own path is
# called `out`. Without their context, the paths are plain strings and nothing is built for them; the
# derivations are written to the store all the same.
#
# A vm is `microvms.NAME`, or a guest of microvm.nix, `nixosConfigurations.NAME`, if it is asked for as that or
# listed in `blixard.microvmNix`. No other configuration is looked at: each costs a second.
{
  # null for all, or what to look for: { output = null or "microvms" or "nixosConfigurations"; name = "…"; }
  ask,
  # Whether the vms are described, or only their names are told.
  describe,
}:
outputs:
let
  microvms = outputs.microvms or { };
  listed = outputs.blixard.microvmNix or [ ];
  configurations = outputs.nixosConfigurations or { };

  of = output: name: { inherit output name; };
  all = map (of "microvms") (builtins.attrNames microvms) ++ map (of "nixosConfigurations") listed;
  # By its name alone a vm is found where all of them are.
  settle =
    { output, name }:
    if output != null then
      of output name
    else if !(microvms ? ${name}) && builtins.elem name listed then
      of "nixosConfigurations" name
    else
      of "microvms" name;
  asked = if ask == null then all else map settle ask;

  isThere =
    { output, name }: if output == "microvms" then microvms ? ${name} else configurations ? ${name};
  missing = builtins.filter (vm: !(isThere vm)) asked;

  description =
    vm@{ output, name }:
    let
      runner = if output == "microvms" then microvms.${name} else machine.runner;
      machine = plain name configurations.${name};
    in
    vm
    // {
      inherit (runner) system;
      drv = builtins.unsafeDiscardStringContext runner.drvPath;
      out = builtins.unsafeDiscardStringContext runner.outPath;
      spec = if output == "microvms" then runner.blixard or null else machine.spec;
    };

  # A guest of microvm.nix: its runner, and the spec that its configuration amounts to. With Blixard's own
  # module in it, the spec is the one of that module.
  plain =
    name: machine:
    let
      inherit (machine) config;
      inherit (config) microvm;
      runner = microvm.declaredRunner;
      bad = what: throw "nixosConfigurations.${name}: ${what}";

      interface =
        {
          type,
          id,
          mac,
          ...
        }:
        if type == "bridge" then
          bad "microvm.interfaces: ${id} has the type \"bridge\", for which QEMU would need root; use \"tap\", and the bridge of `host.bridge` in blixardd.toml"
        else
          {
            kind = type;
            inherit id mac;
            multiQueue = type == "tap" && (runner.tapMultiQueue or false);
          };

      # The last part of a path, as a name of the schema: lower-case letters, digits and `-`.
      nameOf =
        let
          letters = text: builtins.genList (at: builtins.substring at 1 text) (builtins.stringLength text);
        in
        path:
        builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ_. ")
          (letters "abcdefghijklmnopqrstuvwxyz---")
          (baseNameOf (builtins.unsafeDiscardStringContext (toString path)));
      volume =
        {
          image,
          autoCreate ? true,
          fsType ? "ext4",
          label ? null,
          mkfsExtraArgs ? [ ],
          imageType ? "raw",
          ...
        }@volume:
        # What microvm.nix does not make is there already, where whoever runs the hosts has put it.
        if !autoCreate then
          {
            name = nameOf image;
            inherit image;
            sizeMib = 1;
            kind = "shared";
          }
        else if mkfsExtraArgs != [ ] then
          bad "microvm.volumes: ${image} has `mkfsExtraArgs`; Blixard makes the file system on the host, and takes `fsType` and `label` only"
        else if imageType != "raw" then
          bad "microvm.volumes: ${image} is a ${imageType}; Blixard makes raw images only, so set `autoCreate = false` and make it yourself"
        else
          {
            name = nameOf image;
            inherit image label fsType;
            sizeMib = volume.size;
          };

      share =
        {
          tag,
          source,
          proto,
          ...
        }:
        {
          inherit tag;
          source = builtins.unsafeDiscardStringContext (toString source);
          protocol = proto;
        };

      derived = {
        schema = 1;
        resources = {
          vcpus = microvm.vcpu;
          memoryMib = microvm.mem + (microvm.hotplugMem or 0);
        };
        inherit (microvm) hypervisor;
        kvm =
          if microvm.hypervisor != "qemu" || (microvm.cpu or null) == null then
            "required"
          else if
            ((microvm.qemu.machineOpts or null) != null && (microvm.qemu.machineOpts.accel or "") == "tcg")
          then
            "unused"
          else
            "preferred";
        notify = runner.supportsNotifySocket or false;
        canShutdown = runner.canShutdown or false;
        # What microvm.nix's own host runs guests under, and its scripts expect; one that changes to a user
        # of its own begins as root.
        account =
          if (microvm.user or null) != null then
            null
          else
            {
              user = "microvm";
              group = "kvm";
            };
        interfaces = map interface microvm.interfaces;
        volumes = map volume microvm.volumes;
        shares = map share microvm.shares;
        vsockCid = microvm.vsock.cid or null;
        devices = map ({ path, ... }: path) microvm.devices;
        credentials = builtins.mapAttrs (_: toString) (microvm.credentialFiles or { });
      };
    in
    if !(machine ? config.microvm.declaredRunner) then
      bad "it is no guest of microvm.nix: it has no `microvm.declaredRunner`; import microvm.nixosModules.microvm"
    else
      {
        inherit runner;
        spec = config.blixard.vm.spec or derived;
      };
in
{
  provides = outputs ? microvms || outputs ? blixard.microvmNix || ask != null;
  inherit missing;
  vms =
    if missing != [ ] then
      [ ]
    else if describe then
      map description asked
    else
      asked;
}
