# SPDX-License-Identifier: GPL-2.0-or-later
"""Releases of Xen.  Which rules one has is in ``changed_rules``; no rule looks at a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Release:
    """A release of Xen; later ones compare greater."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


BASE = Release(4, 15)  # master of October 2020, where the lock rework was posted
NEWEST = Release(4, 22)
RELEASES: tuple[Release, ...] = (
    Release(4, 14),
    BASE,
    Release(4, 17),
    Release(4, 20),
    Release(4, 21),
    NEWEST,
)
