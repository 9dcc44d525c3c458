# SPDX-License-Identifier: GPL-2.0-or-later
"""The posterior probability of each commit to be the culprit, given all observations (Bayes).

The test is one-sided: a revision without the culprit never shows the failure; a revision with
it shows the failure with an unknown probability p per try.  So one failure excludes, for
certain, every commit that the failing revision does not contain.  A pass only makes the commits
that the passing revision contains less probable.  p is unknown as well, so the distribution is
a joint one, over culprit and p.  (If the culprit took a failure away, it is the other way round:
the revisions without it are bad; see ``Commits.is_bad``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.bisect.commits import Commits
from harness.bisect.observations import Counts

Floats = NDArray[np.float64]

# The prior of p: half flat, half log-uniform, down to one failure in fifty tries (below that a
# bisection by testing takes days), and a little extra for "always".  Measured with 200
# simulated histories for each p: a flat prior alone trusts passes of a rare failure too soon
# (6 % wrong at p = 0.1, when the bad end has to fail three times).  Half of the prior on
# "always", which is true of most bugs, trusts passes of a frequent failure too soon (16 % wrong
# at p = 0.7).
_ALWAYS = 0.05
_RATES = np.append(np.geomspace(0.02, 0.97, 24), 1.0)
_FLAT = np.gradient(_RATES[:-1])
_RATE_PRIOR = np.append((1 - _ALWAYS) * (0.5 / 24 + 0.5 * _FLAT / _FLAT.sum()), _ALWAYS)

# A race needs a timing, and that can change with a commit that has nothing to do with it: in
# one revision of ten the failure may show only a third as often.  So passes of one revision
# prove less the more of them there are, and those of two are worth more than twice as many
# of one.  (200 simulated histories for each p whose older half has a third of p: 87 to 91 %
# right; without this 81 to 88 %.)
_ODD_REVISIONS, _ODD_RATE = 0.1, 1 / 3

# Prior probability that the good end is bad as well: people mix revisions up.  Small, because
# they seldom do; not zero, because without it the search would never test the good end.
_BAD_GOOD_END = 0.05


@dataclass(frozen=True)
class Posterior:
    """The joint probability of the culprit (rows) and p (columns).

    The last row stands for a culprit outside: the good end is bad as well.
    """

    commits: Commits
    joint: Floats
    rates: Floats

    @cached_property
    def culprit(self) -> Floats:
        """Probability of each commit to be the culprit; the last: that the good end is bad."""
        total: Floats = self.joint.sum(axis=1)
        return total

    @property
    def outside(self) -> float:
        """Probability that the good end is bad as well."""
        return float(self.culprit[-1])

    @property
    def if_always(self) -> Floats:
        """Joint probability of each culprit and p = 1; all zero: p is less than 1."""
        column: Floats = self.joint[:, -1]
        return column

    @property
    def rate(self) -> float:
        """The expected p."""
        return float(self.joint.sum(axis=0) @ self.rates)

    def passes_all(self, tries: int) -> float:
        """Return the probability that ``tries`` of a revision with the culprit all pass."""
        return float(self.joint.sum(axis=0) @ _chance_all_pass(self.rates, tries))

    def failing(self, tries: int) -> Floats:
        """Return, for each culprit, the probability that a revision with it fails in ``tries``."""
        fails = self.joint @ (1 - _chance_all_pass(self.rates, tries))
        sure = np.maximum(self.culprit, np.finfo(np.float64).tiny)
        chance: Floats = np.clip(fails / sure, 0.0, 1.0)
        return chance


class Contradiction(Exception):
    """No single culprit, not even one outside, explains the observations."""


def infer_posterior(
    commits: Commits,
    counts: Mapping[str, Counts],
    digests: Mapping[str, str] | None = None,
    forced: bool = False,
) -> Posterior:
    """Return the posterior after ``counts`` (by revision).

    ``digests``, by revision, are of the hypervisors that were built.  Two revisions with the
    same bytes are either both bad or both good, so no commit that only one of them contains is
    the culprit.  ``forced``: the test forces the failure, so p is 1.  Contradiction if no
    culprit is possible.
    """
    count = len(commits.ids)
    prior = np.array([name not in commits.inert for name in commits.ids], np.float64)
    if not prior.any():
        raise Contradiction("no commit in between changes what is built")
    prior *= (1 - _BAD_GOOD_END) / prior.sum()
    with np.errstate(divide="ignore"):
        log = np.log(np.append(prior, _BAD_GOOD_END))[:, None] + np.log(_RATE_PRIOR)[None, :]
        if forced:
            log[:, :-1] = -np.inf
    for name, of_revision in counts.items():
        inside = commits.is_bad[commits.row_of[name]]
        if of_revision.fails:
            log[~inside] = -np.inf
        with np.errstate(divide="ignore"):
            log[inside] += np.log(_likelihood(_RATES, of_revision.passes, of_revision.fails))
    for one, other in _same_build_rows(commits, digests or {}):
        log[commits.is_bad[one] != commits.is_bad[other]] = -np.inf
    top = log.max(initial=-np.inf)
    if top == -np.inf:
        raise Contradiction("no single commit explains the observations")
    joint = np.exp(log - top)
    assert joint.shape == (count + 1, len(_RATES))
    return Posterior(commits, joint / joint.sum(), _RATES)


def _likelihood(rates: Floats, passes: int, fails: int) -> Floats:
    """Return, for each p, the probability that a revision with the culprit gives these tries."""
    usual: Floats = rates**fails * (1 - rates) ** passes
    seldom = rates * _ODD_RATE
    odd = seldom**fails * (1 - seldom) ** passes
    odd[-1] = usual[-1]  # a failure that always shows does so in every revision
    return (1 - _ODD_REVISIONS) * usual + _ODD_REVISIONS * odd


def _chance_all_pass(rates: Floats, tries: int) -> Floats:
    return _likelihood(rates, tries, 0)


def _same_build_rows(commits: Commits, digests: Mapping[str, str]) -> list[tuple[int, int]]:
    """Return pairs of rows whose builds are the same; of three or more, each with the next."""
    rows: dict[str, list[int]] = {}
    for name, digest in digests.items():
        if name in commits.row_of:
            rows.setdefault(digest, []).append(commits.row_of[name])
    return [pair for same in rows.values() for pair in pairwise(same)]
