# SPDX-License-Identifier: GPL-2.0-or-later
"""With which hypervisors the same dom0 and domUs have come up on this host: kept in the cache.

That a domain does not come up may be the fault of Xen or of the lab.  If the same images have come
up with another Xen, on the same host, it is Xen's (after a second try; see harness.run.second_try).
Remembering costs nothing; booting another Xen each time would cost a boot, and a bisection boots
its good revisions anyway.
"""

from __future__ import annotations

import contextlib
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import cache
from harness.config.host import QemuHost
from harness.config.physical import Host
from harness.data import GUESTS
from harness.hypervisor.build import Build
from harness.images.dom0 import Dom0Image
from harness.machine import emulator
from harness.toolstack.choice import Choice

_SHELF = "came-up"


@dataclass(frozen=True)
class CameUp:
    """What is known of the same images on one host; ``key`` is of all that is booted but Xen."""

    key: str
    build: str  # digest of the Xen that is booted now

    @classmethod
    def of(cls, host: Host, built: Build, image: Dom0Image, agent: Path, fit: Choice) -> CameUp:
        """Return it for what is about to be booted on ``host``."""
        own = sorted(path for name in ("dom0", "domu") for path in (GUESTS / name).iterdir())
        toolstack = fit.built.digest if fit.built else ""
        words = cache.digest_files([fit.words], base=fit.words.parent) if fit.words else ""
        return cls(
            cache.key(
                host.model_dump_json(),
                _machine(host),
                image.digest,
                cache.digest_files(own, base=GUESTS),
                agent.read_bytes(),
                [fit.codename, fit.how == "none", toolstack, words],
            ),
            built.digest,
        )

    def note(self, version: str, *, domus: bool) -> None:
        """Remember that dom0 (or the ``domus``) came up with this Xen, which is ``version``."""
        folder = self._folder(domus)
        with contextlib.suppress(OSError):  # the cache may be read-only
            folder.mkdir(parents=True, exist_ok=True)
            facts = {"version": version, "when": datetime.now(UTC).isoformat(timespec="seconds")}
            (folder / self.build).write_text(json.dumps(facts))

    def elsewhere(self, *, domus: bool) -> str:
        """Return another Xen with which the same came up, and when; "" if there is none."""
        known = []
        with contextlib.suppress(OSError, ValueError, KeyError):
            for path in map(cache.trusted, self._folder(domus).iterdir()):
                if path.name != self.build:
                    facts = json.loads(path.read_text())
                    known.append((str(facts["when"]), str(facts["version"])))
        return " on ".join(reversed(max(known))) if known else ""

    def _folder(self, domus: bool) -> Path:
        return cache.shelf(_SHELF) / self.key / ("domus" if domus else "dom0")


def _machine(host: Host) -> list[str]:
    """Return what else decides whether a machine boots: the computer, and its QEMU."""
    if not isinstance(host, QemuHost):
        return []
    program = Path(emulator.qemu(host.arch))
    about = program.stat()
    return [platform.node(), str(program), str(about.st_size), str(about.st_mtime_ns)]
