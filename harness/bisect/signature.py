# SPDX-License-Identifier: GPL-2.0-or-later
"""Which failure is it?  Two failures are the same if the test and the identity of the evidence
are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.evidence import Evidence, codec, words
from harness.evidence.identity import Identity, identity

_UNEXPLAINED = Identity("failure", "")  # of an exception of the test case, without evidence


@dataclass(frozen=True)
class Signature:
    """What a failure has in common each time it occurs."""

    test: str  # name of the test that showed it
    kind: str  # of the evidence: hang, crash, disallowed, assertion...
    site: str  # Xen's function or file, the model's property, or the test case
    shape: str  # details, without the numbers that vary

    def __str__(self) -> str:
        return f"{self.test}: {words.identity(Identity(self.kind, self.site, self.shape))}"

    def key(self) -> str:
        """Return a text that is equal if and only if the signature is."""
        return json.dumps(asdict(self), sort_keys=True)


def signature(test: Mapping[str, Any]) -> Signature:
    """Return the signature of a failed test, as ``run --json`` has it (name, evidence)."""
    return of_evidence(test["name"], codec.from_json(test.get("evidence")))


def of_evidence(test: str, evidence: Evidence | None) -> Signature:
    """Return the signature of test ``test`` that failed with ``evidence``."""
    found = _UNEXPLAINED if evidence is None else identity(evidence)
    return Signature(test, found.kind, found.site, found.shape)
