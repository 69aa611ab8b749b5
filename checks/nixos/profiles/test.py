machine.wait_for_unit("blixardd.service")
machine.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")

for profile in ["minimal", "web", "database", "builder"]:
    with subtest(f"{profile} boots and is healthy"):
        machine.succeed(f"blixard deploy /root/infra#{profile}", timeout=1200)
        machine.succeed(f"blixard vm show -o json {profile} | grep -q '\"healthy\"'")
        machine.succeed(f"blixard vm stop {profile}", timeout=300)

with subtest("worker boots, does what it should, and has succeeded"):
    machine.succeed("blixard deploy /root/infra#worker", timeout=1200)
    machine.wait_until_succeeds("blixard vm show -o json worker | grep -q '\"succeeded\"'", timeout=600)
    assert "the work is done" in machine.succeed("blixard vm logs worker")
    machine.fail("systemctl is-active blixard-vm-default-worker-run.service")
