# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench of ``corpus --generate`` on a host that is not booted: ``... TESTS OUT``.

Every test comes by mutant 1.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli import mutants
from harness.config.host import BUILT_IN
from harness.config.options import RunOptions
from harness.corpus.mutants import switch
from harness.corpus.mutants.schema import WATCH
from harness.run.plan import make_plan
from harness.verdict import LabError
from tests.hypervisor.tree import make_tree
from tests.run import fake_session

SEEN: list[str] = []


class Session(fake_session.FakeSession):
    """A host that can go back to its snapshot, with a Xen that has mutants."""

    on = 0

    def restore(self) -> None:
        if self.trouble is not None:
            raise LabError("QEMU has ended")
        SEEN.append("restore")
        self.on = 0


@contextmanager
def session(plan: Any, host: Any, recorder: Any, questions: object = None) -> Any:
    assert recorder.has_lock_code(host.name), "it would be refuted for faults that are not on"
    SEEN.append(f"boot snapshot={plan.snapshot} keep={plan.keep}")
    yield Session(host, recorder)
    SEEN.append("off")


def main(tests: Path, out: Path) -> None:
    def turn_on(live: Any, number: int) -> None:
        live.on = number
        SEEN.append("watch" if number == WATCH else f"on {number}")

    def met(live: Any, count: int) -> frozenset[int]:
        return frozenset({1})

    setattr(mutants, "session", session)  # noqa: B010
    setattr(mutants, "tests_of", lambda suite, given: [str(tests)])  # noqa: B010
    setattr(switch, "turn_on", turn_on)  # noqa: B010
    setattr(switch, "met", met)  # noqa: B010
    tree = make_tree(out.parent / "xen")
    plan = make_plan(RunOptions(xen_src=tree, flavour="rwlock", seed=1, host=("qemu-arm64",)))
    plan = replace(plan, hosts=(BUILT_IN["qemu-arm64"],))
    said: dict[str, Any] = {}
    with mutants._Bench(plan, out) as bench:
        reaches = bench.watch("lock", 3, out / "runs" / "original")
        said["reaches"] = [(each.node, each.verdict, sorted(each.met)) for each in reaches]
        nodes = [each.node for each in reversed(reaches)]
        for number in (1, 3, 2):
            ran = bench.run("lock", number, nodes, out / "runs" / str(number))
            said[str(number)] = [(test["name"], test["verdict"]) for test in ran]
        bench.run("conformance", 1, nodes, out / "runs" / "c1")
        bench.run("conformance", 2, nodes, out / "runs" / "c2")
    print(json.dumps(said | {"seen": SEEN}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
