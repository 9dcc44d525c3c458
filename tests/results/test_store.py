# SPDX-License-Identifier: GPL-2.0-or-later
"""A run read back: finished, interrupted anywhere, or still going."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.records import Broken, Domain, HostEnd, Leak, Phase, RunEnd, RunStart, Test
from harness.results.store import load
from harness.verdict import ConfigError, Verdict

from . import runs


def test_a_finished_run_says_what_was_written(tmp_path: Path) -> None:
    run = load(runs.good(tmp_path / "r").path)
    assert (run.state, run.verdict, run.message, run.seed) == ("finished", Verdict.PASS, "", 7)
    assert (run.argv, run.seconds) == (runs.ARGV, 93.2)
    assert [host.name for host in run.hosts] == list(runs.HOSTS)
    host = run.hosts[1]
    assert (host.arch, host.accel, host.flavour) == ("arm64", "tcg", "counter")
    assert (host.build_id, host.operations) == (runs.BUILD_ID, 48211)
    assert [(d.name, d.type) for d in host.domains] == [
        ("dom0", "dom0"),
        ("domu1", "arm"),
        ("domu2", "arm"),
    ]
    assert len(host.tests) == 6
    assert len(host.samples) == 21
    assert len(host.latencies) == 12


def test_hosts_do_not_mix(tmp_path: Path) -> None:
    bad, other = load(runs.failing(tmp_path / "r").path).hosts
    assert (bad.verdict, other.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert (len(bad.leaks), len(other.leaks)) == (2, 0)
    assert (len(bad.console_events), len(other.console_events)) == (1, 0)
    assert [test.name for test in other.tests] == ["loopback"]


def test_a_killed_run_is_miss_interrupted(tmp_path: Path) -> None:
    run = load(runs.interrupted(tmp_path / "r").path)
    assert (run.state, run.verdict, run.message) == ("interrupted", Verdict.MISS, "interrupted")
    assert len(run.problems) == 1
    under_load, not_begun = run.hosts
    assert (under_load.verdict, under_load.message) == (Verdict.MISS, "interrupted after agents")
    assert under_load.operations == 48211
    assert (not_begun.verdict, not_begun.message) == (Verdict.MISS, "interrupted before it began")
    assert not_begun.arch == ""


def test_cut_after_any_record_it_still_reads_and_never_says_pass(tmp_path: Path) -> None:
    whole = runs.failing(tmp_path / "whole").journal.read_bytes().splitlines(keepends=True)
    cut = create(tmp_path / "cut")
    for count in range(len(whole)):
        cut.journal.write_bytes(b"".join(whole[:count]))
        run = load(cut.path)
        assert run.state == "interrupted"
        assert run.verdict in (Verdict.MISS, Verdict.FAIL)


def test_what_was_seen_before_the_kill_stands(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("a", "b")))
        journal.append(Test("a", "t", Verdict.FAIL, 1.0, "forbidden"))
        journal.append(Test("b", "t", Verdict.PASS, 1.0))
    run = load(directory.path)
    assert run.verdict is Verdict.FAIL
    assert [host.verdict for host in run.hosts] == [Verdict.FAIL, Verdict.MISS]


def test_killed_while_collecting_the_cause_stands(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with_cause = Journal(directory.journal)
    with_cause.append(RunStart(7, runs.ARGV, "0", ("h",)))
    with_cause.append(Broken("h", Verdict.FAIL, "Xen hangs: CPU0 spins"))
    with_cause.close()
    run = load(directory.path)
    assert (run.state, run.verdict) == ("interrupted", Verdict.FAIL)
    (host,) = run.hosts
    assert (host.verdict, host.message) == (Verdict.FAIL, "Xen hangs: CPU0 spins")


def test_while_its_writer_lives_a_run_is_running(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("a",)))
        journal.append(Phase("a", "build", 1.0))
        run = load(directory.path)
        assert (run.state, run.message) == ("running", "still running")
        assert run.hosts[0].message == "still running"
    assert load(directory.path).state == "interrupted"


def test_a_host_that_a_finished_run_did_not_reach(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(1, ("x",), "0", ("a", "b")))
        journal.append(HostEnd("a", Verdict.FAIL, 5, "broken"))
        journal.append(RunEnd(Verdict.FAIL, 2.0))
    first, second = load(directory.path).hosts
    assert (first.verdict, first.message) == (Verdict.FAIL, "broken")
    assert (second.verdict, second.message) == (Verdict.MISS, "not reached")


def test_phases_come_in_order_and_add_up(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        for name, seconds in (("load", 2.0), ("boot", 3.0), ("own", 1.0), ("load", 0.5)):
            journal.append(Phase("a", name, seconds))
    (host,) = load(directory.path).hosts
    assert list(host.seconds.items()) == [("boot", 3.0), ("load", 2.5), ("own", 1.0)]


def test_a_journal_without_its_first_record_still_reads(tmp_path: Path) -> None:
    directory = create(tmp_path / "r")
    with Journal(directory.journal) as journal:
        journal.append(Domain("a", "dom0", "dom0", 3))
        journal.append(Leak("a", "ports", "1", "2"))
    run = load(directory.path)
    assert (run.seed, run.argv) == (None, ())
    assert run.hosts[0].operations == 3


def test_an_empty_journal_is_a_run_that_learnt_nothing(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").touch()
    run = load(tmp_path)
    assert (run.verdict, run.hosts, run.started, run.seconds) == (Verdict.MISS, (), None, 0.0)


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the directory of a run"):
        load(tmp_path)
