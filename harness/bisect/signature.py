"""Which failure is it?  The same test with evidence of the same identity shows the same one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.evidence import Evidence, codec, words
from harness.evidence.identity import Identity, identity

_UNEXPLAINED = Identity("failure", "")  # a test case's own exception, which says nothing


@dataclass(frozen=True)
class Signature:
    """What is the same about a failure each time it shows."""

    test: str  # name of the test that showed it
    kind: str  # of the evidence: hang, crash, disallowed, assertion...
    site: str  # Xen's function or file, the model's property, or the test case
    shape: str  # what about it, without the numbers that vary

    def __str__(self) -> str:
        return f"{self.test}: {words.identity(Identity(self.kind, self.site, self.shape))}"

    def key(self) -> str:
        """Return it as one text that is equal exactly if the signature is."""
        return json.dumps(asdict(self), sort_keys=True)


def signature(test: Mapping[str, Any]) -> Signature:
    """Return the signature of a failed test, as ``run --json`` has it (name, evidence)."""
    return of_evidence(test["name"], codec.from_json(test.get("evidence")))


def of_evidence(test: str, evidence: Evidence | None) -> Signature:
    """Return the signature of test ``test`` that failed with ``evidence``."""
    seen = _UNEXPLAINED if evidence is None else identity(evidence)
    return Signature(test, seen.kind, seen.site, seen.shape)
