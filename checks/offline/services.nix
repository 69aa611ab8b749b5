# Does with busybox what NixOS would do in a guest with the options that profiles and tests set: addresses, file systems,
# services. For guests of the stand-in for nixpkgs.
{ config, lib, ... }:
let
  wired = config.systemd.network.networks."20-wired";
  perform = lib.concatMapStrings (line: line + "\n");
  nginx = config.services.nginx.virtualHosts.default or { };
  mount = mountPoint: ''
    mkdir -p ${mountPoint}
    mount -t ${config.fileSystems.${mountPoint}.fsType} ${
      config.fileSystems.${mountPoint}.device
    } ${mountPoint}
    echo "run" >> ${mountPoint}/runs
    echo; echo "blixard-volume ${mountPoint} was seen by $(wc -l < ${mountPoint}/runs) runs"
  '';
in
{
  # A busybox needs little, whatever the profile says of what it stands for.
  blixard.vm.memory = 192;
  blixard.vm.vcpus = 1;
  microvm.shares = [
    {
      tag = "ro-store";
      source = "/nix/store";
      mountPoint = "/nix/.ro-store";
    }
  ];
  standin.init = ''
    ${lib.optionalString (config.environment.etc ? version) ''
      echo "version ${config.environment.etc.version.text}"
    ''}
    ${perform (
      map (address: "ip link set eth0 up; ip address add ${address} dev eth0") wired.address or [ ]
    )}
    ${perform (map ({ mountPoint, ... }: mount mountPoint) config.blixard.vm.volumes)}
    ${lib.optionalString (config.services.nginx.enable or false) ''
      mkdir /www
      echo "${lib.removePrefix "200 " nginx.locations."= /healthz".return}" > /www/healthz
      httpd -h /www
    ''}
    ${lib.optionalString (config.services.postgresql.enable or false) ''
      while true; do nc -l -p 5432 < /dev/null > /dev/null; done &
    ''}
    ${lib.optionalString (config.systemd.services ? blixard-worker) ''
      ${config.blixard.profiles.worker.script}
      poweroff -f
    ''}
  '';
}
