# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that say what to run: a child reads from its command line what we wrote there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.options import takes
from harness.config.nightly import Suite, Xen
from harness.config.options import MODELS, RunOptions, XenOptions, table, words
from harness.verdict import ConfigError

_NAMES = st.text("abcxyz019.-_ =", min_size=1).filter(lambda text: text.strip() == text)
_PATHS = st.builds(Path, _NAMES)
_TREES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"xen_release": st.sampled_from(["4.14", "4.17", "4.20"])}),
    st.fixed_dictionaries({"xen_src": _PATHS}),
    st.fixed_dictionaries({"xen_git": _NAMES, "xen_ref": _NAMES}),
)
_OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "flavour": _NAMES,
        "series": st.lists(_PATHS).map(tuple),
        "model": st.sampled_from(["counter", "rwlock", "spinlock"]),
        "host": st.lists(_NAMES).map(tuple),
        "duration": st.floats(0.5, 86400),
        "seed": st.integers(-1, 2**32),
        "suite": st.sampled_from(["lock", "conformance"]),
        "snapshot": st.booleans(),
        "repeat": st.integers(1, 1000),
        "keep_going": st.booleans(),
        "lab": _PATHS,
        "out": _PATHS,
    },
)


@click.command()
@takes(RunOptions, "options")
def read(options: RunOptions) -> RunOptions:
    """Return what was read."""
    return options


@given(_TREES, _OTHERS)
def test_what_a_childs_words_say_is_what_it_reads(
    tree: dict[str, Any], others: dict[str, Any]
) -> None:
    chosen = RunOptions(**tree | others)
    assert read.main(words(chosen), standalone_mode=False) == chosen


def test_without_options_all_is_as_declared() -> None:
    assert read.main([], standalone_mode=False) == RunOptions()
    assert words(RunOptions()) == []


def test_a_nightly_has_the_same_defaults() -> None:
    suite, xen = Suite(name="s"), Xen(name="x")
    assert (suite.duration, suite.repeat, suite.suite, suite.seed, suite.snapshot) == (
        RunOptions.duration, RunOptions.repeat, RunOptions.suite, RunOptions.seed,
        RunOptions.snapshot,
    )  # fmt: skip
    assert xen.flavour == XenOptions.flavour
    assert not (xen.series or XenOptions.series or xen.model or XenOptions.model)
    for model in MODELS:
        assert Xen.model_validate({"name": "x", "model": model}).model == model


def test_every_option_is_explained_and_says_what_value_it_takes() -> None:
    for option in table(RunOptions).values():
        assert option.help[0].isupper() and option.help.rstrip("]")[-1] != " "
        assert option.type is bool or option.metavar or option.choices, option.name


def test_another_xen_is_the_same_run() -> None:
    run = RunOptions(host=("h",), seed=3, flavour="spinlock", xen_release="4.14")
    other = run.with_xen(XenOptions(flavour="rwlock", xen_src=Path("xen")))
    assert other == RunOptions(host=("h",), seed=3, flavour="rwlock", xen_src=Path("xen"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"xen_src": Path("x"), "xen_git": "y", "xen_ref": "z"}, "--xen-src and --xen-git exclude"),
        ({"xen_release": "4.14", "xen_src": Path("x")}, "--xen-release excludes --xen-src"),
        ({"xen_git": "x"}, "--xen-git needs --xen-ref"),
        ({"xen_ref": "x"}, "--xen-git needs --xen-ref"),
        ({"duration": 0.4}, "--duration: 0.4 s is not between half a second and a day"),
        ({"duration": float("nan")}, "--duration"),
        ({"repeat": 0}, "--repeat: 0 is less than 1"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_opened(
    wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        RunOptions(**wrong)
