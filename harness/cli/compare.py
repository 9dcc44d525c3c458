# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness compare BASE CANDIDATE``: equivalent, different, or worse?"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from harness.arch import Arch
from harness.cli import echo, print_json
from harness.cli.options import host_option, json_option, option
from harness.cli.tables import print_table
from harness.compare.companions import missing_companions, read_table
from harness.compare.judge import Comparison, Pair, Ratio, Rounds, details, judge, outcomes
from harness.compare.measure import Measurement, read_measurement
from harness.compare.rounds import Role, run_rounds, until_settled
from harness.compare.variant import Variant, find_variant
from harness.config.lab import host as find_host
from harness.config.lab import load_lab, write_without_domus
from harness.config.options import RunOptions
from harness.hypervisor.rules import find_rules
from harness.progress import Progress
from harness.results import directory
from harness.results.directory import write_whole
from harness.run import child
from harness.toolstack.choice import choose
from harness.verdict import EXIT_FAIL, EXIT_LAB, EXIT_PASS

_EXITS = {"equivalent": EXIT_PASS, "differs": EXIT_PASS, "worse": EXIT_FAIL, "undecided": EXIT_LAB}


@click.command()
@click.argument("base")
@click.argument("candidate")
@host_option()
@click.option(
    "--rounds",
    "most",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Run each Xen at most N times; fewer once the answer is certain.",
)
@option("duration", help="Seconds of load in each run.")
@option("seed", help="Seed of the first round; each further round adds one.", unset="a new one")
@click.option(
    "--margin",
    type=click.FloatRange(1, 100),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="How far the speeds may differ and still count as the same.",
)
@option("series", help="Apply the patches in this file to CANDIDATE; repeatable.")
@option("model", help="The lock by whose rules to judge CANDIDATE.")
@option("lab")
@option("out")
@json_option
def command(
    base: str,
    candidate: str,
    host: str,
    most: int,
    duration: float,
    seed: int | None,
    margin: float,
    series: tuple[Path, ...],
    model: str | None,
    lab: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run the same load on two Xens, one after the other, and say what is different.

    BASE and CANDIDATE are each a flavour (rwlock), a release (4.14), a directory, REPO@REF,
    or one of these and a flavour (4.14:counter).  Exit code 1: CANDIDATE is worse; 3: more
    rounds are needed to know.
    """
    options = RunOptions(
        host=(host,), duration=duration, lab=lab, keep_going=True, no_snapshot=True
    )
    hosts = load_lab(lab)
    arch = find_host(hosts, host).arch
    variants = find_variant(base, "BASE"), find_variant(candidate, "CANDIDATE", series, model)
    place = directory.create(out).path
    if why := _no_toolstack(variants, arch):  # the same load needs the same domains
        echo(f"no domUs on either side: {why}", err=True)
        options = replace(options, lab=write_without_domus(hosts, place))
    both = {
        "base": options.with_xen(variants[0].options),
        "candidate": options.with_xen(variants[1].options),
    }

    def notice(text: str) -> None:
        echo(text, err=True)

    def run(role: Role, number: int, attempt: int) -> Measurement:
        again = f"-{attempt + 1}" if attempt else ""
        folder = place / "runs" / f"{role}-{number}{again}"
        notice(f"-- {role}, seed {number}")
        child.run(replace(both[role], seed=number, out=folder))
        return read_measurement(folder)

    companions = read_table()
    lacking = [missing_companions(one.source.tree, companions) for one in variants]
    found = [find_rules(one.source) for one in variants]
    for note in dict.fromkeys(note for one in found for note in one.notes):
        notice(note)
    rules = found[0].rules, found[1].rules

    def judged(pairs_so_far: list[Pair]) -> Comparison:
        return judge(
            pairs_so_far, margin=margin / 100, rules=rules, missing=(lacking[0], lacking[1])
        )

    first = secrets.randbits(31) if seed is None else seed
    pairs = run_rounds(run, count=most, seed=first, notice=notice)
    comparison = judged([])
    result = _write(place, variants, comparison, [], margin)
    for pairs_so_far, comparison in until_settled(pairs, judged, most=most, notice=notice):
        result = _write(place, variants, comparison, pairs_so_far, margin)
    if as_json:
        print_json(result)
    else:
        _print(comparison)
        echo(str(place))
    return _EXITS[comparison.verdict]


def _write(
    place: Path,
    variants: tuple[Variant, Variant],
    comparison: Comparison,
    pairs_so_far: Rounds,
    margin: float,
) -> dict[str, Any]:
    result = document(variants, comparison, details(pairs_so_far, margin / 100)) | {
        "outcomes": outcomes(pairs_so_far),
        "path": str(place),
    }
    write_whole(place / "compare.json", json.dumps(result, indent=2) + "\n")
    return result


def document(
    variants: tuple[Variant, Variant], comparison: Comparison, more: list[Ratio]
) -> dict[str, Any]:
    """Return the JSON document of ``compare --json``; docs/compare.md has its keys."""
    names = [
        {
            "name": one.name,
            "flavour": one.flavour.name,
            "version": one.source.version,
            "series": [patch.subject for patch in one.source.series],
            "model": one.flavour.design,
        }
        for one in variants
    ]
    return {
        "verdict": comparison.verdict,
        "summary": comparison.summary,
        "base": names[0],
        "candidate": names[1],
        "differences": [asdict(one) for one in comparison.differences],
        "ratios": [_ratio(one) for one in comparison.ratios],
        "details": [_ratio(one) for one in more],
        "rounds": comparison.rounds,
        "rounds_needed": comparison.rounds_needed,
        "seconds_needed": comparison.seconds_needed,
    }


def _ratio(one: Ratio) -> dict[str, Any]:
    numbers = (one.ratio.estimate, one.ratio.low, one.ratio.high)
    estimate, low, high = (round(n, 4) if math.isfinite(n) else None for n in numbers)
    return {
        "name": one.name,
        "ratio": estimate,
        "interval": [low, high],
        "better": one.better,
        "pairs": one.pairs,
        "decided": one.decided,
        "pairs_needed": one.pairs_needed,
    }


def _print(comparison: Comparison) -> None:
    if comparison.differences:
        rows = [
            (d.what, d.subject, d.base, d.candidate, "worse" if d.worse else "", d.explained)
            for d in comparison.differences
        ]
        print_table(["difference", "", "base", "candidate", "", "why"], rows, 160)
    for ratio in comparison.ratios:
        interval = ratio.ratio
        limits = f"{interval.low:.3f} to {interval.high:.3f}, {ratio.better} is better"
        echo(f"{ratio.name}: {interval.estimate:.3f} times the base ({limits})")
    echo(comparison.summary)


def _no_toolstack(variants: Sequence[Variant], arch: Arch) -> str:
    """Return why dom0 can have no toolstack on one of ``variants``; "" if it can on all.

    One that is not in the cache is built, with progress.
    """
    progress = Progress()
    for one in variants:
        with progress.phase(one.name, "toolstack"):
            fit = choose(
                one.source,
                arch,
                progress=lambda objects: progress.update(f"{objects} objects compiled"),
                notice=progress.update,
            )
        if fit.why_not:
            return f"{one.name}: {fit.why_not}"
    return ""
