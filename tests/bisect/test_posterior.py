# SPDX-License-Identifier: GPL-2.0-or-later
"""The posterior against Bayes' rule written out the long way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bisect.observations import Counts
from harness.bisect.posterior import (
    _BAD_GOOD_END,
    _ODD_RATE,
    _ODD_REVISIONS,
    _RATE_PRIOR,
    _RATES,
    Contradiction,
    infer_posterior,
)
from harness.bisect.simulate import line

COUNT = 6
TALLIES = st.dictionaries(
    st.integers(0, COUNT), st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=4
)


def by_hand(seen: dict[int, tuple[int, int]]) -> list[float]:
    """Return the weight of culprit 1..COUNT and of one before the good end (the last)."""
    weights = []
    for culprit in [*range(1, COUNT + 1), 0]:
        prior = (1 - _BAD_GOOD_END) / COUNT if culprit else _BAD_GOOD_END
        total = 0.0
        for rate, share in zip(_RATES, _RATE_PRIOR, strict=True):
            likely = share
            for revision, (passes, fails) in seen.items():
                if culprit <= revision:
                    odd = rate if rate == 1 else rate * _ODD_RATE
                    likely *= (1 - _ODD_REVISIONS) * (
                        1 - rate
                    ) ** passes * rate**fails + _ODD_REVISIONS * ((1 - odd) ** passes * odd**fails)
                elif fails:
                    likely = 0.0
            total += likely
        weights.append(prior * total)
    return weights


@given(seen=TALLIES)
def test_the_posterior_follows_bayes_rule(seen: dict[int, tuple[int, int]]) -> None:
    weights = by_hand(seen)
    counts = {f"c{revision}": Counts(*counts) for revision, counts in seen.items()}
    got = infer_posterior(line(COUNT), counts)
    assert got.culprit == pytest.approx(np.array(weights) / sum(weights), abs=1e-9)


@given(seen=TALLIES)
def test_the_order_of_revisions_does_not_matter(seen: dict[int, tuple[int, int]]) -> None:
    counts = {f"c{revision}": Counts(*counts) for revision, counts in seen.items()}
    backwards = dict(reversed(counts.items()))
    one, other = infer_posterior(line(COUNT), counts), infer_posterior(line(COUNT), backwards)
    assert one.culprit == pytest.approx(other.culprit)


def test_one_failure_clears_every_later_commit_and_a_pass_no_earlier_one() -> None:
    got = infer_posterior(line(COUNT), {"c3": Counts(passes=0, fails=1)})
    assert (got.culprit[3:COUNT] == 0).all() and (got.culprit[:3] > 0).all()
    got = infer_posterior(line(COUNT), {"c3": Counts(passes=50)})
    assert (got.culprit > 0).all() and got.culprit[0] < got.culprit[5] / 5


def test_the_prior_sums_to_one() -> None:
    assert _RATE_PRIOR.sum() == pytest.approx(1)
    assert infer_posterior(line(COUNT), {}).culprit.sum() == pytest.approx(1)


def test_same_bytes_and_different_results_contradict_each_other() -> None:
    counts = {"c3": Counts(fails=1), "c0": Counts(passes=50)}
    same = infer_posterior(line(COUNT), counts, {"c3": "x", "c1": "x"})
    assert (same.culprit[1:3] == 0).all() and same.culprit[0] > 0.9
    with pytest.raises(Contradiction):
        two_causes = Counts(fails=1)
        commits = line(1)
        infer_posterior(type(commits)("c0", commits.ids, commits.parents, frozenset(commits.ids)),
               {"c1": two_causes})  # fmt: skip
