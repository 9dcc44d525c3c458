# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness model litmus``: the Armv8 model against litmus tests of herdtools7."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click

from harness.binary.litmus.catalogue import Compared, answered, compare
from harness.binary.litmus.herd import read_test
from harness.binary.litmus.outside import OutsideError
from harness.binary.litmus.run import run
from harness.cli import echo
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS


@click.command("litmus")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def command(path: Path) -> int:
    """Run litmus tests through the lifter of `model binary` and the Armv8 model.

    PATH is a checkout of herdtools7, whose published answers are compared, or one .litmus file:
    can its outcome be observed?

    Exit code: 0 all that are covered agree (of one file: it could be run), 1 one does not, 3 none
    is covered.
    """
    return _checkout(path) if path.is_dir() else _file(path)


def _checkout(path: Path) -> int:
    begun = time.monotonic()
    done: list[Compared] = []
    for one in compare(path):
        done.append(one)
        if not one.agrees:
            echo(f"{one.folder}/{one.name}: published {one.published}, the model {one.found}")
    covered = [one for one in done if not one.outside]
    disagree = sum(not one.agrees for one in covered)
    seconds = time.monotonic() - begun
    echo(f"{len(done)} tests, {len(covered)} covered, {disagree} disagree, {seconds:.0f} s")
    for reason, count in Counter(one.outside for one in done if one.outside).most_common():
        echo(f"  {count} not covered: {reason}")
    if not covered:
        return EXIT_LAB
    return EXIT_FAIL if disagree else EXIT_PASS


def _file(path: Path) -> int:
    try:
        ran = run(read_test(path))
    except OutsideError as error:
        echo(f"{path.name}: not covered: {error}")
        return EXIT_LAB
    echo(f"{ran.test.name}: {answered(ran.observable)}")
    return EXIT_PASS
