# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC that speaks IPMI: VirtualBMC over a server that is a libvirt domain.

``python -m tests.real.rack.virtualbmc FILE.json`` is the BMC, with VirtualBMC's own arguments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.rack.domain import domain
from tests.real.rack.program import program

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
        words: list[str | Path] = [sys.executable, "-m", __name__, config]
        with program(words, folder / "virtualbmc.log", cwd=_ROOT):
            yield


def main() -> None:
    from virtualbmc.vbmc import VirtualBMC

    VirtualBMC(**json.loads(Path(sys.argv[1]).read_text())).listen()


if __name__ == "__main__":
    main()
