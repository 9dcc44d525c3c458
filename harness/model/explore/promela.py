# SPDX-License-Identifier: GPL-2.0-or-later
"""A system in Promela, so that ``spin``, another model checker, can check the explorer's results.

One ``d_step`` is one step of the program, and nothing else is a state, so that spin, without its
partial order reduction, stores as many states as ``system.without_symmetry()`` has.  How many
threads carry a tag is kept in ghost variables: they depend only on where the threads are, and so
add no state.
"""

from __future__ import annotations

import re

from harness.model.explore import formula
from harness.model.explore.program import BUSY, DONE, AtomicStep, Branch, Program, System
from harness.model.explore.search import lock_free_at_rest

_GHOST = "n_"


def export(system: System, *, assertions: bool = True) -> str:
    """Return ``system`` as a Promela model.

    Without ``assertions`` it has the same states, and nothing is checked.
    """
    writer = _Writer(system, assertions)
    return "\n".join(writer.lines()) + "\n"


class _Writer:
    def __init__(self, system: System, assertions: bool) -> None:
        self.system = system
        self.assertions = assertions
        self.variables = {variable.name for variable in system.variables}
        self.constants = dict(system.constants)
        self.never = (*system.never, *lock_free_at_rest(system))
        self.tags = sorted(
            {
                tag
                for role in system.roles
                for place in role.program.places
                for tag in _tags(role.program, place)
            }
        )

        guards = {
            name
            for role in system.roles
            for step in role.program.steps
            for branch in step.branches
            for name in formula.names_of(branch.when)
        }
        self.ghosts = assertions or not guards.isdisjoint(self.tags)

    def name(self, name: str) -> str:
        if name in self.variables or name in self.constants:
            return name
        return f"{_GHOST}{name}" if name in self.tags else "0"

    def formula(self, text: str) -> str:
        return formula.to_promela(text, self.name)

    def lines(self) -> list[str]:
        lines = [f"/* {self.system.name}: spin -a -o1 -o2 -o3, gcc -DNOREDUCE -DSAFETY, pan -E */"]
        lines += [f"#define {name} {value}" for name, value in self.system.constants]
        lines += [f"int {v.name} = {v.initial};" for v in self.system.variables]
        if self.ghosts:
            lines += [f"byte {_GHOST}{tag} = {self._at_start(tag)};" for tag in self.tags]
        for number, role in enumerate(self.system.roles):
            lines += ["", *self._process(number, role.count, role.program)]
        return lines

    def _at_start(self, tag: str) -> int:
        roles = self.system.roles
        return sum(r.count for r in roles if tag in _tags(r.program, r.program.places[0]))

    def _process(self, number: int, count: int, program: Program) -> list[str]:
        lines = [f"active [{count}] proctype {_identifier(program.name)}_{number}()", "{"]
        for step in program.steps:
            lines.append(f"{_label(step.name)}:  /* {step.xen} */")
            lines.append("  if")
            lines += [f"  :: {self._branch(program, step, b)}" for b in step.branches]
            lines.append("  fi;")
        if DONE in program.places:
            lines.append(f"{_label(DONE)}: (false)")
        return [*lines, "}"]

    def _branch(self, program: Program, step: AtomicStep, branch: Branch) -> str:
        parts = [self.formula(branch.when) if branch.when else "true"]
        if self.assertions and branch.requires:
            parts.append(f"assert({self.formula(branch.requires)})")
        for name, value in branch.adds:
            parts.append(f"{name} = {name} + ({self.system.constant(value)})")
        parts += [f"{name} = {value}" for name, value in branch.sets]
        if self.ghosts:
            parts += self._ghosts(program, step.name, branch.then)
        if self.assertions:
            parts += [f"assert(!({self.formula(never.formula)}))" for never in self.never]
        return f"d_step {{ {'; '.join(parts)} }} goto {_label(branch.then)}"

    def _ghosts(self, program: Program, source: str, target: str) -> list[str]:
        before, after = _tags(program, source), _tags(program, target)
        lost = [f"{_GHOST}{tag}--" for tag in before if tag not in after]
        won = [f"{_GHOST}{tag}++" for tag in after if tag not in before]
        return lost + won


def _tags(program: Program, place: str) -> tuple[str, ...]:
    at_rest = place in (program.steps[0].name, DONE)
    return program.tags_of(place) if at_rest else (*program.tags_of(place), BUSY)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _label(step: str) -> str:
    return f"S_{_identifier(step)}"
