"""Which failure is it?  Two that differ only in ports, times and CPUs are the same one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signature:
    """What is the same about a failure each time it shows."""

    test: str  # name of the test that showed it
    kind: str  # hang, crash, disallowed, answer
    site: str  # Xen's function or file, the model's property, or the test
    shape: str  # what about it, without the numbers that vary

    def __str__(self) -> str:
        shape = f" ({self.shape})" if self.shape else ""
        return f"{self.test}: {self.kind} in {self.site}{shape}"


_SPIN = re.compile(r"CPU\d+ spins in (\w+)(?: on port \d+)?(?:: lock word = -?\d+(.*))?")
_CRASH = re.compile(
    r"(?:^|: )(assertion|bug|lock check|watchdog|double fault|fatal trap|panic): (.*)"
)
_FAILED_AT = re.compile(r"'(.*)' failed at (\S+?):\d+")
_BUG_AT = re.compile(r"Xen BUG at (\S+?):\d+")
_DISALLOWED = re.compile(r"([a-z][a-z -]*) \(\d+ in all\)$")
_CULPRIT = re.compile(r"^>> \[.*?\] us\s+\S+\s+cpu\d+\s+(\w+)", re.MULTILINE)
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")


def signature(test: Mapping[str, Any]) -> Signature:
    """Return the signature of a failed test, as ``run --json`` has it (name, message, story)."""
    name, message, story = test["name"], str(test["message"]), str(test["story"])
    if message.startswith("Xen hangs: "):
        return _of_hang(name, message)
    if crash := _CRASH.search(message):
        return _of_crash(name, crash[1], crash[2])
    if found := _DISALLOWED.search(message):
        culprit = _CULPRIT.search(story)
        return Signature(name, "disallowed", found[1], culprit[1] if culprit else "")
    return Signature(name, "answer", name, _plain(message))


def _of_hang(name: str, message: str) -> Signature:
    """The CPU at a channel's lock is the one to blame; the others wait for it, or do not."""
    said = message.partition("; seen when ")[0].removeprefix("Xen hangs: ")
    spins = [spin for spin in map(_SPIN.match, said.split("; ")) if spin]
    if not spins:
        return Signature(name, "hang", "", "")
    blamed = min(spins, key=lambda spin: (not spin[1].startswith("evtchn_"), not spin[2]))
    shape = _plain(blamed[2] or "").strip(" =,").replace("readers:", "reader:")
    return Signature(name, "hang", blamed[1], shape)


def _of_crash(name: str, kind: str, text: str) -> Signature:
    """A line number moves with every commit above it: the file and the condition stay."""
    if failed := _FAILED_AT.search(text):
        return Signature(name, "crash", failed[2], failed[1])
    if bug := _BUG_AT.search(text):
        return Signature(name, "crash", bug[1], kind)
    return Signature(name, "crash", kind, _plain(text))


def _plain(text: str) -> str:
    return _NUMBER.sub("N", text).strip()
