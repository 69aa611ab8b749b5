machine.wait_for_unit("blixardd.service")

with subtest("the daemon is ready and its socket is for root and its group"):
    machine.succeed("blixard status")
    assert machine.succeed("stat -c '%U:%G %a' /run/blixard/blixardd.sock").strip() == "root:blixard 660"

with subtest("the configuration of the module is one that the daemon takes"):
    machine.succeed("blixardd --config /etc/blixard/blixardd.toml --check-config")

with subtest("a flake is deployed and its guest is healthy"):
    machine.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")
    machine.succeed("blixard deploy /root/infra", timeout=1200)

with subtest("the guest answers over the bridge"):
    machine.succeed("curl --fail http://10.79.0.2/healthz | grep healthy")

with subtest("a restart of the daemon does not touch the guest"):
    unit = "blixard-vm-default-web-run.service"
    before = machine.succeed(f"systemctl show --value --property=MainPID {unit}")
    machine.succeed("systemctl restart blixardd.service")
    machine.wait_until_succeeds("blixard vm list | grep -w healthy", timeout=120)
    assert machine.succeed(f"systemctl show --value --property=MainPID {unit}") == before

with subtest("deleting it leaves no unit and no tap"):
    machine.succeed("blixard vm delete web")
    machine.fail("test -e /sys/class/net/vm-web")
    machine.fail("systemctl is-active blixard-vm-default-web-run.service")
