machine.wait_for_unit("blixardd.service")
machine.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")

for profile in ["minimal", "web", "database", "builder"]:
    with subtest(f"{profile} boots and is healthy"):
        machine.succeed(f"blixard deploy /root/infra#{profile}", timeout=1200)
        machine.succeed(f"blixard vm show -o json {profile} | grep -q '\"healthy\"'")
        machine.succeed(f"blixard vm stop {profile}", timeout=300)

with subtest("worker is a task, which is refused by name until there are tasks"):
    status, said = machine.execute("blixard deploy /root/infra#worker 2>&1", timeout=1200)
    assert status != 0 and "tasks" in said, said
