machine.wait_for_unit("blixardd.service")
machine.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")

with subtest("a configuration is deployed by its name, and no other is evaluated"):
    machine.succeed("blixard deploy /root/infra#nixosConfigurations.web", timeout=1200)

with subtest("the hypervisor runs under the account that microvm.nix expects"):
    unit = "blixard-vm-default-web-run.service"
    assert machine.succeed(f"systemctl show --value --property=User {unit}").strip() == "microvm"

with subtest("its tap is on the bridge, and the guest answers"):
    machine.succeed("ip link show dev vm-web | grep 'master br-blixard'")
    machine.wait_until_succeeds("curl --fail http://10.79.0.2/", timeout=600)

with subtest("it is asked to shut down"):
    machine.succeed("blixard vm stop web", timeout=300)
    machine.fail("test -e /sys/class/net/vm-web")
