import json


def deploy(version):
    machine.succeed(f"mkdir -p /root/infra && cp -fL /etc/{version}/flake.nix /root/infra/ && nix flake lock /root/infra")
    return machine.execute("blixard deploy /root/infra", timeout=1800)[0]


def generation():
    return json.loads(machine.succeed("blixard vm show -o json app"))["runningGeneration"]


machine.wait_for_unit("blixardd.service")

with subtest("a first generation"):
    assert deploy("one") == 0
    assert generation() == 1

with subtest("an unchanged flake makes no other"):
    assert deploy("one") == 0
    assert generation() == 1

with subtest("a changed guest makes a second one"):
    assert deploy("two") == 0
    assert generation() == 2

with subtest("one that is not healthy is told of, and the one before runs again"):
    assert deploy("three") != 0
    machine.wait_until_succeeds("blixard vm show -o json app | grep -q '\"runningGeneration\": *2'", timeout=900)

with subtest("a daemon that is restarted adopts what runs"):
    unit = "blixard-vm-default-app-run.service"
    before = machine.succeed(f"systemctl show --value --property=MainPID {unit}")
    machine.succeed("systemctl restart blixardd.service")
    machine.succeed("blixard status")
    assert machine.succeed(f"systemctl show --value --property=MainPID {unit}") == before
