import json


def vm(node):
    return json.loads(node.succeed("blixard vm show -o json hello"))


alpha.wait_for_unit("blixardd.service")

with subtest("two machines join the first"):
    alpha.succeed("blixard cluster init")
    for node in [beta, gamma]:
        token = alpha.succeed("blixard cluster token create").strip()
        node.succeed(f"install -m 600 /dev/null /run/blixard-token && echo '{token}' > /run/blixard-token")
        node.succeed("systemctl start blixardd.service")
    alpha.wait_until_succeeds("blixard node list -o json | grep -c '\"ready\"' | grep -q 3", timeout=120)

with subtest("a guest is deployed from the first and runs on one of them"):
    alpha.succeed("mkdir /root/infra && cp -L /etc/infra/flake.nix /root/infra/ && nix flake lock /root/infra")
    alpha.succeed("blixard deploy /root/infra", timeout=1200)
    host = next(node for node in [alpha, beta, gamma] if node.name == vm(alpha)["node"])

with subtest("any of them tells the same"):
    assert vm(beta)["node"] == vm(gamma)["node"] == host.name

with subtest("its host dies, and it runs on another"):
    others = [node for node in [alpha, beta, gamma] if node is not host]
    host.crash()
    others[0].wait_until_succeeds(
        f"blixard vm show -o json hello | grep -q '\"healthy\"' && ! blixard vm show -o json hello | grep -q '\"node\": *\"{host.name}\"'",
        timeout=600,
    )
