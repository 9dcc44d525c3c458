# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of a run: what ``run --json`` and ``report --json`` print.

docs/results.md documents the keys.  They do not change; new ones may be added.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.evidence import codec
from harness.results.records import Domain, FoundRule, Leak, LockCode, Model, Test
from harness.results.store import HostRun, Run


def run_document(run: Run) -> dict[str, Any]:
    """Return ``run`` as plain JSON values; seconds are rounded to milliseconds."""
    return {
        "verdict": run.verdict.value,
        "message": run.message,
        "state": run.state,
        "path": str(run.directory.path),
        "report": str(run.directory.report),
        "seed": run.seed,
        "started": run.started.isoformat() if run.started else None,
        "seconds": round(run.seconds, 3),
        "hosts": [_host(host) for host in run.hosts],
        "problems": list(run.problems),
    }


def _host(host: HostRun) -> dict[str, Any]:
    return {
        "name": host.name,
        "verdict": host.verdict.value,
        "message": host.message,
        "arch": host.arch,
        "accel": host.accel,
        "accel_reason": host.accel_reason,
        "starved": host.starved,
        "flavour": host.flavour,
        "build_id": host.build_id,
        "xen_version": host.xen_version,
        "source": host.source,
        "toolstack": host.toolstack,
        "toolstack_reason": host.toolstack_reason,
        "restored": host.restored,
        "series": [asdict(patch) for patch in host.series],
        "model": _model(host.model),
        "rules": [_rule(rule) for rule in host.rules],
        "operations": host.operations,
        "seconds": {name: round(seconds, 3) for name, seconds in host.seconds.items()},
        "domains": [_domain(domain) for domain in host.domains],
        "tests": [_test(test) for test in host.tests],
        "leaks": [_leak(leak) for leak in host.leaks],
        "symptoms": [asdict(symptom) for symptom in host.symptoms],
        "lock_code": _lock_code(host.lock_code),
    }


def _model(model: Model | None) -> dict[str, Any] | None:
    if model is None:
        return None
    return {"name": model.name, "how": model.how, "from": model.source}


def _lock_code(found: LockCode | None) -> dict[str, Any] | None:
    if found is None:
        return None
    told = asdict(found)
    del told["host"]
    return told


def _rule(rule: FoundRule) -> dict[str, Any]:
    return {"name": rule.name, "holds": rule.holds, "from": rule.origin, "why": rule.why}


def _domain(domain: Domain) -> dict[str, Any]:
    return {"name": domain.name, "type": domain.type, "operations": domain.operations}


def _test(test: Test) -> dict[str, Any]:
    return {
        "name": test.name,
        "verdict": test.verdict.value,
        "seconds": round(test.seconds, 3),
        "message": test.message,
        "story": test.story,
        "artifacts": list(test.artifacts),
        "evidence": None if test.evidence is None else codec.to_json(test.evidence),
    }


def _leak(leak: Leak) -> dict[str, Any]:
    return {"what": leak.what, "before": leak.before, "after": leak.after}
