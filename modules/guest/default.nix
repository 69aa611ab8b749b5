# A microVM for Blixard: what `blixard.vm` says becomes microvm.nix's options, and a spec beside the runner.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.blixard.vm;
  plain = config.microvm.declaredRunner;

  machineOpts = config.microvm.qemu.machineOpts;
  isEmulated =
    config.microvm.cpu != null
    && cfg.hypervisor == "qemu"
    && machineOpts != null
    && machineOpts.accel or "" == "tcg";

  # Of the hypervisors only QEMU can be handed any.
  withCredentials = cfg.hypervisor == "qemu";

  # The keys of a spec among a set of options.
  only = names: set: lib.getAttrs names set;

  spec = {
    schema = 1;
    notify = plain.supportsNotifySocket or false;
    canShutdown = plain.canShutdown or false;
    interfaces = map (
      interface: interface // { multiQueue = interface.kind == "tap" && (plain.tapMultiQueue or false); }
    ) cfg.interfaces;
    volumes = map (only [
      "name"
      "image"
      "sizeMib"
      "kind"
      "fsType"
      "label"
    ]) cfg.volumes;
    shares = map (only [
      "tag"
      "source"
      "protocol"
    ]) cfg.shares;
  }
  // only [
    "tenant"
    "kind"
    "resources"
    "hypervisor"
    "kvm"
    "stopTimeoutMs"
    "health"
    "restart"
    "placement"
    "update"
    "account"
    "vsockCid"
    "devices"
    "credentials"
    "labels"
  ] cfg;
in
{
  imports = [
    ./options.nix
    ./assertions.nix
  ];

  config = {
    blixard.vm = {
      inherit spec;
      kind = lib.mkIf cfg.task "task";
      resources.memoryMib = lib.mkDefault cfg.memory;
      resources.vcpus = lib.mkDefault cfg.vcpus;
      kvm = lib.mkMerge [
        (lib.mkIf (config.microvm.cpu == null) (lib.mkDefault "required"))
        (lib.mkIf isEmulated (lib.mkDefault "unused"))
      ];
      # What microvm.nix runs guests under; Blixard's host module makes it.
      account = lib.mkDefault {
        user = "microvm";
        group = "kvm";
      };
      runner =
        pkgs.runCommand "microvm-${config.networking.hostName}"
          {
            passAsFile = [ "spec" ];
            spec = builtins.toJSON cfg.spec;
            passthru = plain.passthru or { } // {
              blixard = cfg.spec;
            };
            meta.mainProgram = "microvm-run";
          }
          ''
            mkdir -p $out/share/blixard
            ln -s ${plain}/bin $out/bin
            ln -s ${plain}/share/microvm $out/share/microvm
            cp "$specPath" $out/share/blixard/spec.json
          '';
    };

    # A volume grows with its spec, and what is on it with the volume.
    fileSystems = lib.listToAttrs (
      map ({ mountPoint, ... }: lib.nameValuePair mountPoint { autoResize = lib.mkDefault true; }) (
        lib.filter ({ fsType, kind, ... }: fsType == "ext4" && kind != "shared") cfg.volumes
      )
    );

    microvm = {
      inherit (cfg) hypervisor;
      vcpu = cfg.resources.vcpus;
      mem = cfg.resources.memoryMib;
      vsock.cid = cfg.vsockCid;
      interfaces = map (
        {
          kind,
          id,
          mac,
          ...
        }:
        {
          type = kind;
          inherit id mac;
        }
      ) cfg.interfaces;
      volumes = map (
        {
          image,
          sizeMib,
          mountPoint,
          fsType,
          label,
          ...
        }:
        {
          inherit
            image
            mountPoint
            fsType
            label
            ;
          # Blixard makes images before a start; a runner that makes them, too, would take an empty one for
          # one that was lost.
          autoCreate = false;
          size = sizeMib;
        }
      ) cfg.volumes;
      shares = map (
        {
          tag,
          source,
          protocol,
          mountPoint,
        }:
        {
          inherit tag source mountPoint;
          proto = protocol;
        }
      ) cfg.shares;
      # What Blixard shows the hypervisor, and it alone: the same for all microVMs, so that a runner can name it.
      credentialFiles = lib.mkIf withCredentials (
        lib.mapAttrs (name: _: "/run/blixard-credentials/${name}") cfg.credentials
      );
      devices = map (path: {
        bus = "pci";
        inherit path;
      }) cfg.devices;
    };
  };
}
