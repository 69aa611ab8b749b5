{
  networking.hostName = "web";
  microvm = {
    mem = 768;
    interfaces = [
      {
        type = "tap";
        id = "vm-web";
        mac = "02:00:00:00:00:02";
      }
    ];
    shares = [
      {
        tag = "ro-store";
        source = "/nix/store";
        mountPoint = "/nix/.ro-store";
      }
    ];
  };
  services.nginx.enable = true;
  networking.firewall.allowedTCPPorts = [ 80 ];
  system.stateVersion = "26.05";
}
