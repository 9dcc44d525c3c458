# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the rules that changed hold in one Xen: a value that the model is asked with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from harness.model.evtchn.changed_rules import TABLE, Rule
from harness.model.evtchn.releases import BASE, Release


class Implementation(StrEnum):
    """Whose event channels they are."""

    XEN = "Xen"
    QEMU = "QEMU"  # its emulation of Xen for guests of KVM: see harness.model.evtchn.qemu


@dataclass(frozen=True, slots=True, repr=False)
class Rules:
    """The rules that hold in a Xen; ``release`` only names it.

    Those of another implementation are the rules of the Xen with which it is compared.
    """

    release: Release
    held: frozenset[Rule]
    implementation: Implementation = Implementation.XEN

    def holds(self, rule: Rule) -> bool:
        """Say whether ``rule`` holds."""
        return rule in self.held

    def __repr__(self) -> str:
        return f"Rules({self.release}, {{{', '.join(sorted(self.held))}}})"  # in one order

    def __str__(self) -> str:
        """The release; if a tree does otherwise than its number says, in what."""
        usual = by_version(self.release).held
        seen = [each.rule for each in TABLE if each.rows]
        more = [rule for rule in seen if rule in self.held and rule not in usual]
        less = [rule for rule in seen if rule in usual and rule not in self.held]
        words = [
            f"{word} {', '.join(names)}"
            for word, names in (("with", more), ("without", less))
            if names
        ]
        name = "QEMU" if self.implementation is Implementation.QEMU else str(self.release)
        return " ".join([name, *words])


@dataclass(frozen=True, slots=True, repr=False)
class AskedRules(Rules):
    """Rules that remember which of them were asked for.

    A prediction that was made with them is the same with any rules of which those ``asked`` for
    hold alike.
    """

    asked: set[Rule] = field(default_factory=set, compare=False)

    def holds(self, rule: Rule) -> bool:
        """Say whether ``rule`` holds, and note that it was asked for."""
        self.asked.add(rule)
        return rule in self.held


def by_version(release: Release, point: int | None = None) -> Rules:
    """Return the rules of ``release``, point release ``point`` (None: the newest)."""
    return Rules(release, frozenset(each.rule for each in TABLE if each.in_version(release, point)))


def by_names(release: Release, names: Iterable[str]) -> Rules:
    """Return the rules that were recorded as ``names``; those not known here are left out."""
    known = {rule.value: rule for rule in Rule}
    return Rules(release, frozenset(known[name] for name in names if name in known))


def differing_rows(one: Rules, other: Rules) -> frozenset[str]:
    """Return the rows of docs/spec/evtchn.md whose answer or effect may differ between the two.

    A conformance run also asks the models of other releases about what the real Xen did.  What one
    of them would not have allowed must be among these rows.
    """
    return frozenset(
        row for each in TABLE if one.holds(each.rule) != other.holds(each.rule) for row in each.rows
    )


BASE_RULES = by_version(BASE)
