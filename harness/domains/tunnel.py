# SPDX-License-Identifier: GPL-2.0-or-later
"""A local UNIX socket; each connection to it is joined to a new program in dom0.

``virsh -c xen+ssh://`` does the same with the ssh program; here it uses the SSH connection that
is already open.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from harness.domains.dom0 import Dom0, ExecChannel

_CHUNK = 65536


class Tunnel:
    """Listens at ``path``; each connection starts ``program`` in dom0."""

    def __init__(self, dom0: Dom0, program: list[str], path: Path) -> None:
        self.path = path
        self._dom0 = dom0
        self._program = program
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._open: list[tuple[socket.socket, ExecChannel]] = []
        threading.Thread(target=self._accept, name="tunnel", daemon=True).start()

    def close(self) -> None:
        """Stop listening and end every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for local, remote in self._open:
            remote.close()
            with contextlib.suppress(OSError):
                local.shutdown(socket.SHUT_RDWR)
            local.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            try:
                remote = self._dom0.start(self._program)
            except Exception:  # dom0 is gone: the client sees its connection end
                local.close()
                continue
            self._open.append((local, remote))
            threading.Thread(target=_outward, args=(local, remote), daemon=True).start()
            threading.Thread(target=_inward, args=(local, remote), daemon=True).start()


def _outward(local: socket.socket, remote: ExecChannel) -> None:
    with contextlib.suppress(Exception):
        while data := local.recv(_CHUNK):
            remote.write(data)
    remote.close()


def _inward(local: socket.socket, remote: ExecChannel) -> None:
    with contextlib.suppress(OSError):
        for data in remote.chunks():
            local.sendall(data)
    with contextlib.suppress(OSError):
        local.shutdown(socket.SHUT_RDWR)
