# A small `pkgs` over the programs of a Debian machine: as much of nixpkgs' interface as is used here.
{ lib, system }:
let
  path = "/usr/sbin:/usr/bin:/sbin:/bin";

  shell =
    name: environment: script:
    derivation (
      {
        inherit name system;
        builder = "/bin/sh";
        PATH = path;
        args = [
          "-ec"
          script
        ];
      }
      // environment
    );

  # A package of links to programs of the machine.
  linked =
    pname: programs:
    let
      self =
        shell pname { } ''
          mkdir -p $out/bin
          ${lib.concatMapStrings (program: "ln -s ${program} $out/bin/${baseNameOf program}\n") programs}
        ''
        // {
          inherit pname;
          version = "0";
          meta.mainProgram = baseNameOf (builtins.head programs);
          passthru = { };
          override = _: self;
          overrideAttrs = _: self;
          configureFlags = [ "--enable-seccomp" ];
          buildInputs = [ ];
        };
    in
    self
    // {
      out = self;
      dev = self;
      bin = self;
    };

  written =
    {
      name,
      text,
      executable ? false,
      destination ? "",
    }:
    shell name
      {
        inherit text;
        passAsFile = [ "text" ];
      }
      ''
        mkdir -p "$(dirname "$out${destination}")"
        cp "$textPath" "$out${destination}"
        ${lib.optionalString executable ''chmod +x "$out${destination}"''}
      '';

  runCommand =
    name: environment: script:
    let
      made = derivation (
        removeAttrs environment [
          "meta"
          "passthru"
          "nativeBuildInputs"
        ]
        // {
          inherit name system;
          builder = "/bin/bash";
          PATH = path;
          passAsFile = [ "buildCommand" ] ++ environment.passAsFile or [ ];
          buildCommand = script;
          args = [
            "-ec"
            "source $buildCommandPath"
          ];
        }
      );
    in
    made
    // {
      meta = environment.meta or { };
      passthru = environment.passthru or { };
    }
    // (environment.passthru or { });

  graph =
    name: root: script:
    runCommand name {
      exportReferencesGraph = [
        "graph"
        root
      ];
    } script;

  qemu = linked "qemu" [ "/usr/bin/qemu-system-x86_64" ];
  nothing = name: linked name [ "/bin/true" ];
in
lib.fix (
  pkgs:
  {
    _type = "pkgs";
    inherit
      lib
      system
      runCommand
      qemu
      ;
    pkgs = pkgs;
    path = "/nonexistent";
    runCommandLocal = runCommand;
    buildPackages = pkgs;
    config = { };
    callPackage =
      function: arguments:
      let
        called = if builtins.isPath function then import function else function;
      in
      called (builtins.intersectAttrs (builtins.functionArgs called) pkgs // arguments);
    formats = import ./formats.nix { inherit lib pkgs; };

    stdenv = rec {
      hostPlatform = {
        inherit system;
        isLinux = true;
        isDarwin = false;
        isx86_64 = true;
        linux-kernel.target = "bzImage";
      };
      targetPlatform = hostPlatform;
      buildPlatform = hostPlatform;
    };

    writeText = name: text: written { inherit name text; };
    writeTextFile = written;
    writeTextDir =
      file: text:
      written {
        name = baseNameOf file;
        inherit text;
        destination = "/${file}";
      };
    writeShellScript =
      name: text:
      written {
        inherit name;
        text = "#!/bin/bash\n${text}\n";
        executable = true;
      };
    writeShellScriptBin =
      name: text:
      written {
        inherit name;
        text = "#!/bin/bash\n${text}\n";
        executable = true;
        destination = "/bin/${name}";
      }
      // {
        meta.mainProgram = name;
      };
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
        ...
      }:
      pkgs.writeShellScriptBin name ''
        set -o errexit -o nounset -o pipefail
        export PATH="${lib.makeBinPath runtimeInputs}:$PATH"
        ${text}
      '';
    writers.writePython3 =
      name: _: text:
      written {
        inherit name;
        text = "#!/usr/bin/python3\n${text}";
        executable = true;
      };
    replaceVars = file: _: builtins.readFile file;
    runtimeShell = "/bin/bash";
    linkFarm =
      name: entries:
      runCommand name { } (
        "mkdir -p $out\n" + lib.concatMapStrings ({ name, path }: "ln -s ${path} $out/${name}\n") entries
      );

    writeClosure =
      roots: graph "closure-paths" (builtins.head roots) "grep ^/nix/store/ graph | sort -u > $out";
    closureInfo =
      { rootPaths }:
      graph "closure-info" (builtins.head rootPaths) ''
        mkdir $out
        cp graph $out/registration
        grep ^/nix/store/ graph | sort -u > $out/store-paths
      '';

    mkShell = { packages }: runCommand "shell" { inherit packages; } "touch $out";
    nixosOptionsDoc =
      { options, ... }:
      {
        optionsCommonMark = pkgs.writeText "options.md" (
          lib.concatMapStrings ({ name, ... }: "## ${name}\n") (lib.optionAttrSetToDocList options)
        );
      };
    # What was built of the workspace before, and lies on this machine.
    rustPlatform.buildRustPackage =
      {
        pname,
        version,
        src,
        cargoLock,
        meta,
        ...
      }:
      linked pname [
        "/usr/local/bin/blixard"
        "/usr/local/bin/blixardd"
      ]
      // {
        inherit version meta src;
        lock = builtins.seq (builtins.fromTOML (builtins.readFile cargoLock.lockFile)) null;
      };
    # Machines are made and not run.
    testers.runNixOSTest =
      module:
      let
        evaluated = lib.evalModules {
          modules = [
            module
            {
              options = {
                name = lib.mkOption { type = lib.types.str; };
                nodes = lib.mkOption { type = lib.types.lazyAttrsOf lib.types.deferredModule; };
                testScript = lib.mkOption { type = lib.types.lines; };
              };
              config._module.args = { inherit pkgs; };
            }
          ];
        };
        system =
          name: node:
          lib.nixosSystem {
            modules = [
              node
              {
                networking.hostName = lib.mkDefault name;
                # A machine of a test boots as the driver wants it.
                fileSystems."/" = { };
                boot.loader.grub.enable = false;
              }
            ];
          };
        machine = name: node: (system name node).config.system.build.toplevel;
        machines = lib.attrValues (lib.mapAttrs machine evaluated.config.nodes);
        # What a machine has below /etc.
        etc =
          name: node:
          let
            files = lib.filterAttrs (_: file: file ? source) (system name node).config.environment.etc;
          in
          runCommand "etc-${name}" { } (
            lib.concatLines (
              lib.mapAttrsToList (file: { source, ... }: "install -D -m 644 ${source} $out/${file}") files
            )
          );
        driver = pkgs.writeShellScriptBin "nixos-test-driver" "exit 1 # ${toString machines}";
      in
      runCommand "vm-test-run-${evaluated.config.name}" {
        inherit (evaluated.config) testScript;
        inherit machines;
        passthru.driverInteractive = driver;
        passthru.etc = lib.mapAttrs etc evaluated.config.nodes;
      } "touch $out";

    qemu_kvm = qemu;
    qemu_test = qemu;
    bash = linked "bash" [ "/bin/bash" ];
    busybox = linked "busybox" [ "/bin/busybox" ];
    coreutils = linked "coreutils" [
      "/usr/bin/rm"
      "/usr/bin/touch"
      "/usr/bin/truncate"
    ];
    coreutils-full = pkgs.coreutils;
    btrfs-progs = linked "btrfs-progs" [ "/usr/sbin/mkfs.btrfs" ];
    dosfstools = linked "dosfstools" [ "/usr/sbin/mkfs.vfat" ];
    e2fsprogs = linked "e2fsprogs" [ "/usr/sbin/mkfs.ext4" ];
    gawk = linked "gawk" [ "/usr/bin/awk" ];
    gnused = linked "gnused" [ "/usr/bin/sed" ];
    iproute2 = linked "iproute2" [ "/usr/sbin/ip" ];
    kmod = linked "kmod" [ "/usr/sbin/modprobe" ];
    nix = linked "nix" [
      "/usr/bin/nix"
      "/usr/bin/nix-store"
    ];
    socat = linked "socat" [ "/usr/bin/socat" ];
    xfsprogs = linked "xfsprogs" [ "/usr/sbin/mkfs.xfs" ];
    systemd = linked "systemd" [ "/usr/bin/busctl" ];
    util-linux = linked "util-linux" [ "/usr/bin/flock" ];
    inherit linked;
    python3Packages.supervisor = nothing "supervisor";
  }
  // lib.genAttrs [
    "bubblewrap"
    "cargo"
    "cargo-nextest"
    "clippy"
    "cloud-hypervisor"
    "crosvm"
    "curl"
    "deadnix"
    "erofs-utils"
    "firecracker"
    "gitMinimal"
    "installShellFiles"
    "jq"
    "kvmtool"
    "libguestfs"
    "libguestfs-appliance"
    "libusb1"
    "netcat"
    "nixfmt"
    "nixfmt-tree"
    "parted"
    "postgresql_17"
    "python3"
    "rustc"
    "rustfmt"
    "squashfs-tools-ng"
    "statix"
    "stratovirt"
    "time"
    "virtiofsd"
  ] nothing
)
