"""A BMC that speaks IPMI: VirtualBMC over a server that is a libvirt domain.

``python -m tests.real.rack.virtualbmc FILE.json`` is the BMC, with VirtualBMC's own arguments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.rack.domain import domain

_ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def virtualbmc(
    folder: Path, *, name: str, firmware: str, ports: dict[str, int], user: str, password: str
) -> Iterator[None]:
    """Define the server and start its BMC at port ``ports["lan"]``."""
    with domain(folder, name=name, firmware=firmware, ssh=ports["ssh"]) as found:
        secret = {"username": user, "password": password}
        where = {"address": "127.0.0.1", "port": ports["lan"]}
        switched = {"domain_name": found.name, "libvirt_uri": found.uri}
        config = folder / "virtualbmc.json"
        config.write_text(json.dumps(secret | where | switched))
        with (folder / "virtualbmc.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, config],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            child.terminate()
            child.wait()


def main() -> None:
    from virtualbmc.vbmc import VirtualBMC

    VirtualBMC(**json.loads(Path(sys.argv[1]).read_text())).listen()


if __name__ == "__main__":
    main()
