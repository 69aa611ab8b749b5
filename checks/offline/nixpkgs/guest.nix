# Stands in for what makes a NixOS bootable: the machine's kernel, and an initrd that runs `standin.init`.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  init = pkgs.writeText "init" ''
    #!/bin/busybox sh
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    for module in failover net_failover virtio_net virtio_blk; do insmod /modules/$module.ko; done
    # What is asked of the guest is asked of its init, as with systemd.
    echo 0 > /proc/sys/kernel/ctrl-alt-del
    trap 'echo "blixard-guest ${config.networking.hostName} down"; sleep 1; poweroff -f' INT
    ${config.standin.init}
    echo
    echo "blixard-guest ${config.networking.hostName} generation 0 boot $(cat /proc/sys/kernel/random/boot_id)"
    while true; do sleep 60 & wait $!; done
  '';

  kernel = pkgs.runCommand "kernel" { } ''
    mkdir $out
    cp ${./boot}/vmlinuz $out/bzImage
  '';

  initrd = pkgs.runCommand "initrd" { } ''
    mkdir -p root/bin root/proc root/sys root/dev root/modules $out
    cp /bin/busybox root/bin/
    cp ${./boot}/*.ko root/modules/
    cp ${init} root/init
    chmod 755 root/init
    (cd root && find . | sort | cpio --quiet -o -H newc -R 0:0) | gzip -1n > $out/initrd
  '';

  # What NixOS itself asks of a machine that is to boot from its own disks.
  ofMachines = [
    {
      assertion = config.fileSystems ? "/";
      message = "The fileSystems option does not specify your root file system.";
    }
    {
      assertion = config.boot.loader.grub.enable -> config.boot.loader.grub.devices or [ ] != [ ];
      message = "You must set the option boot.loader.grub.devices to make the system bootable.";
    }
  ];
  asserted = config.assertions ++ lib.optionals (!(options ? microvm)) ofMachines;
  failed = map ({ message, ... }: message) (lib.filter ({ assertion, ... }: !assertion) asserted);
in
{
  options.standin.init = lib.mkOption {
    type = lib.types.lines;
    default = "";
    description = "What the guest does, in the shell of busybox; then it stays up.";
  };

  config = {
    # A guest of microvm.nix is emulated, and has no disks that it would take nixpkgs to make.
    ${if options ? microvm then "microvm" else null} = {
      cpu = lib.mkOverride 900 "max";
      qemu.machine = lib.mkOverride 900 "pc";
      qemu.machineOpts = lib.mkOverride 900 {
        accel = "tcg";
        hpet = "on";
        # microvm.nix brings one; with two, what is asked of the guest reaches the other.
        i8042 = "off";
      };
      optimize.enable = lib.mkOverride 900 false;
      registerClosure = lib.mkOverride 900 false;
      storeOnDisk = lib.mkOverride 900 false;
    };
    boot.kernelPackages.kernel = kernel // {
      version = "6.12";
      out = kernel;
      dev = kernel;
    };
    system.build = {
      initialRamdisk = initrd;
      # As NixOS does it: what is asserted wrongly fails when the system is asked for.
      toplevel =
        if failed != [ ] then
          throw "\nFailed assertions:\n${lib.concatMapStrings (message: "- ${message}\n") failed}"
        else
          pkgs.runCommand "toplevel" { } ''
            mkdir $out
            ln -s ${init} $out/init
          '';
    };
  };
}
