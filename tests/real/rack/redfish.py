# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC that speaks Redfish: sushy-tools' emulator over a server that is a libvirt domain."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from tests.real.rack.domain import domain
from tests.real.rack.program import program

_CONFIG = """\
SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_LIBVIRT_URI = '{uri}'
SUSHY_EMULATOR_AUTH_FILE = '{folder}/htpasswd'
SUSHY_EMULATOR_STATE_DIR = '{folder}/sushy'
"""


@contextmanager
def redfish(
    folder: Path, *, name: str, firmware: str, ports: dict[str, int], user: str, password: str
) -> Iterator[str]:
    """Define the server and start its BMC; yield the path of its system in the service."""
    with (
        domain(folder, name=name, firmware=firmware, ssh=ports["ssh"]) as found,
        _service(folder, found.uri, ports["redfish"], user, password),
    ):
        yield f"/redfish/v1/Systems/{found.uuid}"


@contextmanager
def _service(folder: Path, uri: str, port: int, user: str, password: str) -> Iterator[None]:
    (folder / "sushy").mkdir()
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{user}:{digest}\n")
    config = folder / "sushy.conf"
    config.write_text(_CONFIG.format(port=port, uri=uri, folder=folder))
    words: list[str | Path] = [Path(sys.executable).with_name("sushy-emulator"), "--config", config]
    with program(words, folder / "sushy.log", cwd=folder) as child:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/redfish/v1", timeout=5).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < deadline, "no Redfish service"
                time.sleep(0.2)
        yield
