"""How probable it is of every commit that it is the culprit, given all that was seen.

One-sided: a revision without the culprit never shows the failure, one with it shows it with
an unknown probability p per try.  So one failure excludes every commit that the failing
revision does not contain, for certain; passes only make those less probable that the passing
revision contains.  p is unknown, too: the belief is over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.bisect.commits import Commits
from harness.bisect.tally import Tally

Floats = NDArray[np.float64]

# What is thought of p before the first try: half flat, half every order of magnitude alike,
# down to one failure in fifty tries (below that a bisection by testing takes days), and a
# little extra for "always".  Measured with 200 simulated histories for each p: flat alone
# trusts passes of a rare failure too soon (6 % wrong at p = 0.1 with three lessons), and half
# on "always", which most bugs are, those of a frequent one (16 % wrong at p = 0.7).
_ALWAYS = 0.05
_RATES = np.append(np.geomspace(0.02, 0.97, 24), 1.0)
_FLAT = np.gradient(_RATES[:-1])
_RATE_PRIOR = np.append((1 - _ALWAYS) * (0.5 / 24 + 0.5 * _FLAT / _FLAT.sum()), _ALWAYS)

# A race needs a timing, and that can change with a commit that has nothing to do with it: in
# one revision of ten the failure may show only a third as often.  So passes of one revision
# prove less the more of them there are, and those of two are worth more than twice as many
# of one.  (200 simulated histories for each p whose older half has a third of p: 87 to 91 %
# right; without this 81 to 88 %.)
_ODD, _SELDOM = 0.1, 1 / 3

# That the good end is bad as well: people mix revisions up.  Small, for they seldom do, but
# not nothing: it is what makes the search look at the good end at all.
_OUTSIDE = 0.05


@dataclass(frozen=True)
class Belief:
    """The joint probability of culprit (rows, the last: before the good end) and p (columns)."""

    commits: Commits
    joint: Floats
    rates: Floats

    @cached_property
    def culprit(self) -> Floats:
        """Probability of each commit of being the culprit; the last: of a bad good end."""
        total: Floats = self.joint.sum(axis=1)
        return total

    @property
    def outside(self) -> float:
        """Probability that the good end is bad as well."""
        return float(self.culprit[-1])

    @property
    def if_always(self) -> Floats:
        """What is left for each culprit if the failure always shows; all zero: it does not."""
        column: Floats = self.joint[:, -1]
        return column

    @property
    def rate(self) -> float:
        """The expected p."""
        return float(self.joint.sum(axis=0) @ self.rates)

    def passes_all(self, tries: int) -> float:
        """Return the probability that ``tries`` of a revision with the culprit all pass."""
        return float(self.joint.sum(axis=0) @ _all_pass(self.rates, tries))

    def failing(self, tries: int) -> Floats:
        """Return, for each culprit, the probability that one of ``tries`` fails where it is."""
        fails = self.joint @ (1 - _all_pass(self.rates, tries))
        sure = np.maximum(self.culprit, np.finfo(np.float64).tiny)
        chance: Floats = np.clip(fails / sure, 0.0, 1.0)
        return chance


class Contradiction(Exception):
    """No single culprit, not even one before the good end, explains what was seen."""


def belief(
    commits: Commits,
    tallies: Mapping[str, Tally],
    content: Mapping[str, str] | None = None,
    forced: bool = False,
) -> Belief:
    """Return the belief after ``tallies`` (by revision).

    ``forced``: the test forces the failure, so p is 1.
    ``content``: digests of what was built.  Two revisions with the same bytes are either both
    bad or both good, so no commit that only one of them contains is the culprit.
    """
    count = len(commits.ids)
    prior = np.array([name not in commits.inert for name in commits.ids], np.float64)
    if not prior.any():
        raise Contradiction("no commit in between changes what is built")
    prior *= (1 - _OUTSIDE) / prior.sum()
    with np.errstate(divide="ignore"):
        log = np.log(np.append(prior, _OUTSIDE))[:, None] + np.log(_RATE_PRIOR)[None, :]
        if forced:
            log[:, :-1] = -np.inf
    for name, tally in tallies.items():
        inside = commits.contains[commits.place[name]]
        if tally.fails:
            log[~inside] = -np.inf
        with np.errstate(divide="ignore"):
            log[inside] += np.log(_likelihood(_RATES, tally.passes, tally.fails))
    for one, other in _twins(commits, content or {}):
        log[commits.contains[one] != commits.contains[other]] = -np.inf
    top = log.max(initial=-np.inf)
    if top == -np.inf:
        raise Contradiction("no single commit explains what was seen")
    joint = np.exp(log - top)
    assert joint.shape == (count + 1, len(_RATES))
    return Belief(commits, joint / joint.sum(), _RATES)


def _likelihood(rates: Floats, passes: int, fails: int) -> Floats:
    """Return the probability of such tries of one revision with the culprit, for each p."""
    usual: Floats = rates**fails * (1 - rates) ** passes
    seldom = rates * _SELDOM
    odd = seldom**fails * (1 - seldom) ** passes
    odd[-1] = usual[-1]  # what always shows does so in every revision
    return (1 - _ODD) * usual + _ODD * odd


def _all_pass(rates: Floats, tries: int) -> Floats:
    return _likelihood(rates, tries, 0)


def _twins(commits: Commits, content: Mapping[str, str]) -> list[tuple[int, int]]:
    """Return pairs of rows whose builds are the same, each next to its like."""
    rows: dict[str, list[int]] = {}
    for name, digest in content.items():
        if name in commits.place:
            rows.setdefault(digest, []).append(commits.place[name])
    return [pair for same in rows.values() for pair in pairwise(same)]
