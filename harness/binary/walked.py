# SPDX-License-Identifier: GPL-2.0-or-later
"""The places where a walk through a copy has been, and what it says of the copy there."""

from __future__ import annotations

from dataclasses import dataclass

from harness.binary import findings
from harness.binary.copies import Text
from harness.binary.events import Barrier, Effect
from harness.binary.findings import Departure, NotCovered, Refinement
from harness.binary.machine import State
from harness.model.explore.program import Fence


@dataclass(frozen=True)
class Node:
    """A place in the copy and in the program beside it."""

    state: State
    step: str
    done: bool = False
    owed: Fence = Fence.NONE  # the barrier that the model has after the last step
    owed_by: str = ""  # that step
    since: frozenset[Barrier] = frozenset()  # barriers since the last shared access
    held: int | None = None  # the word, read by one who alone may write there
    outside: int = 0  # instructions since it left the copy: compilers share the code of its end


class Walked:
    """One walk: its places, each with the one before it; what it finds goes into ``found``."""

    def __init__(self, text: Text, found: Refinement) -> None:
        self.text, self.found = text, found
        self.parents: dict[Node, tuple[Node | None, tuple[Effect, ...]]] = {}

    def begin(self, first: Node) -> None:
        """Begin at ``first``, and forget where an earlier walk has been."""
        self.parents = {first: (None, ())}

    def arrives(self, node: Node, before: Node, effects: tuple[Effect, ...]) -> bool:
        """Remember that ``effects`` lead from ``before`` to ``node``; say whether that is new."""
        if node in self.parents:
            return False
        self.parents[node] = (before, effects)
        return True

    def came_from(self, node: Node) -> int:
        """Return the instruction before the one of ``node``; of the first place its own."""
        before, _ = self.parents.get(node, (None, ()))
        return before.state.pc if before is not None else node.state.pc

    def depart(
        self,
        node: Node,
        effect: Effect,
        kind: str,
        binary: str,
        model: str,
        step: str = "",
        before: bool = False,
    ) -> None:
        """Note that the copy leaves the program where it has ``effect``; once for each place.

        ``kind`` to ``step`` and ``before`` as in Departure.
        """
        step, address = step or node.step, effect.address
        same = (kind, step, before, address)
        if any((d.kind, d.step, d.before, d.address) == same for d in self.found.departures):
            return
        trace = (*self._trace(node), self._line(effect, binary))
        line, code = self.text.line(address), self._code(address)
        self.found.departures.append(
            Departure(kind, address, code, line, step, binary, model, trace, before)
        )

    def not_covered(self, address: int, why: str) -> None:
        """Note once that what the copy does at ``address`` is not understood."""
        if all((n.address, n.why) != (address, why) for n in self.found.not_covered):
            self.found.not_covered.append(NotCovered(address, why, self.text.line(address)))

    def _trace(self, node: Node) -> tuple[str, ...]:
        lines: list[str] = []
        at: Node | None = node
        while at is not None:
            at, effects = self.parents.get(at, (None, ()))
            lines += [self._line(effect, findings.told(effect)) for effect in reversed(effects)]
        return tuple(reversed(lines))

    def _line(self, effect: Effect, told: str) -> str:
        where = self.text.line(effect.address)
        return f"{effect.address:#x} {self._code(effect.address)}: {told} ({where})"

    def _code(self, address: int) -> str:
        instruction = self.text.instruction(address)
        return f"{instruction.mnemonic} {instruction.op_str}".strip() if instruction else ""
