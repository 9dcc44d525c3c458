# SPDX-License-Identifier: GPL-2.0-or-later
"""xen-shim of the tree under test: the kernel of a PVH guest in which a PV guest runs."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.hypervisor import build as builds
from harness.hypervisor.build import SHIM_CONFIG, Build
from harness.run.agents import PAYLOAD
from harness.run.session import Session
from harness.verdict import LabError

# Its console is the guest's: what it says of its end is in the guest's log.
SHIM_ARGS = "pv-shim console=pv loglvl=all guest_loglvl=error"
_FILE = f"{PAYLOAD}/xen-shim"
_SEND_SECONDS = 60.0
_OLDEST = (4, 14)  # older ones do not tell the status of a port


def no_shim(live: Session) -> str:
    """Return why there is no shim for this host; "" if there is one."""
    source = live.build.source
    if source.release < _OLDEST:
        return f"xen-shim before {_OLDEST[0]}.{_OLDEST[1]} answers EVTCHNOP_status with nothing"
    if not (source.tree / SHIM_CONFIG).is_file():
        return f"xen-shim is built from the tree under test, and this has no {SHIM_CONFIG}"
    return ""


@contextmanager
def shim_in_dom0(live: Session) -> Iterator[str]:
    """Build the shim, if it is not in the cache, and yield its path in dom0; remove it afterwards.

    BuildError if it does not compile; LabError if dom0 does not take it.
    """
    live.shim = live.shim or _built(live)
    # libxl takes a compressed kernel.
    body = gzip.compress(live.shim.image.read_bytes(), mtime=0)
    try:
        said = live.dom0.run(f"cat >{_FILE}", _SEND_SECONDS, stdin=body)
        if said.status:
            raise LabError(f"cannot write {_FILE}: {said.stderr.strip()}", where="dom0")
        yield _FILE
    finally:
        with suppress(LabError):  # dom0 is gone: what came first tells why
            live.dom0.run(["rm", "-f", _FILE])


def _built(live: Session) -> Build:
    update = live.recorder.progress.update
    return builds.build(
        live.build.source,
        live.plan.hypervisor.flavour,
        live.host.arch,
        live.plan.hypervisor.how,
        shim=True,
        progress=lambda objects: update(f"xen-shim: {objects} objects compiled"),
    )
