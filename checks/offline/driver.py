"""As much of the driver of NixOS tests as `checks/nixos` needs, over machines that are entered by a command.

    driver.py TEST NAME=COMMAND...

Each COMMAND is JSON: the words that run what follows them on that machine. TEST is executed as NixOS' driver would: the
machines are there by their names, `succeed` takes standard output, a `subtest` is named before it runs.
"""

import contextlib
import json
import subprocess
import sys
import time


class Machine:
    def __init__(self, name: str, enter: list[str]) -> None:
        self.name = name
        self.enter = enter

    def execute(self, command: str, timeout: float = 900) -> tuple[int, str]:
        words = [*self.enter, "/bin/bash", "-c", f"set -euo pipefail; {command}"]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout

    def succeed(self, command: str, timeout: float = 900) -> str:
        status, said = self.execute(command, timeout)
        assert status == 0, f"{self.name}: `{command}` failed with {status}: {said}"
        return said

    def fail(self, command: str, timeout: float = 900) -> str:
        status, said = self.execute(command, timeout)
        assert status != 0, f"{self.name}: `{command}` succeeded: {said}"
        return said

    def wait_until_succeeds(self, command: str, timeout: float = 900) -> str:
        end = time.monotonic() + timeout
        while True:
            status, said = self.execute(command, timeout)
            if status == 0:
                return said
            assert time.monotonic() < end, f"{self.name}: `{command}` fails still with {status}: {said}"
            time.sleep(1)

    def wait_for_unit(self, unit: str, timeout: float = 900) -> None:
        self.wait_until_succeeds(f"systemctl is-active {unit}", timeout)


@contextlib.contextmanager
def subtest(name: str):
    print(f"subtest: {name}", flush=True)
    yield


def main() -> None:
    test, *named = sys.argv[1:]
    machines = dict(one.split("=", 1) for one in named)
    words = {name: Machine(name, json.loads(enter)) for name, enter in machines.items()}
    with open(test, encoding="utf-8") as file:
        code = compile(file.read(), test, "exec")
    exec(code, {**words, "subtest": subtest})  # noqa: S102


main()
