machine.wait_for_unit("blixardd.service")
machine.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")

for profile in ["minimal", "web", "database", "builder"]:
    with subtest(f"{profile} boots and is healthy"):
        machine.succeed(f"blixard deploy /root/infra#{profile}", timeout=1200)
        machine.succeed(f"blixard vm show -o json {profile} | grep healthy")
        machine.succeed(f"blixard vm stop {profile}", timeout=300)

with subtest("worker does its work and ends"):
    machine.execute("blixard deploy /root/infra#worker", timeout=1200)
    machine.wait_until_succeeds("blixard vm logs worker | grep 'the work is done'", timeout=300)
