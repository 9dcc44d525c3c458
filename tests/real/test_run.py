# SPDX-License-Identifier: GPL-2.0-or-later
"""The main line on real Xen, both architectures: `run --json` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from harness.hypervisor.symbols import build_id
from harness.verdict import EXIT_LAB
from tests.real.conftest import from_apt, harness, machines, scratch_directories

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

#: Operations of a load of 5 s that show that the load did run: a slow and busy computer of two
#: CPUs has made 15,848, a quick one more than twice as many.
SOME_LOAD = 2_000


@pytest.mark.parametrize("host", ["qemu-x86_64", "qemu-arm64"])
def test_counter_passes_and_leaves_nothing(host: str, tmp_path: Path) -> None:
    before = scratch_directories()
    words = ["run", "--host", host, "--flavour", "counter", "--seed", "11", "--json"]
    words += ["--no-snapshot", "--lines"]
    out = tmp_path / "out"
    ran = harness(*words, "--out", str(out))
    if ran.code == EXIT_LAB:  # a busy machine: a lab fault is retried once, a FAIL never
        out = tmp_path / "again"
        ran = harness(*words, "--out", str(out))
    assert ran.code == 0, ran.stderr
    document = ran.document
    assert document["verdict"] == "PASS"
    (result,) = document["hosts"]
    assert (result["name"], result["flavour"], result["verdict"]) == (host, "counter", "PASS")
    assert result["operations"] >= SOME_LOAD
    assert [domain["name"] for domain in result["domains"]] == ["dom0", "domu1", "domu2"]
    assert all(domain["operations"] > 0 for domain in result["domains"])
    assert result["leaks"] == []
    assert {"build", "images", "boot", "domains", "agents", "load", "check"} <= set(
        result["seconds"]
    )

    built = json.loads(harness("build", "--arch", result["arch"], "--json").stdout)
    assert result["build_id"] == built["build_id"] == build_id(Path(built["syms"]))

    for name in ("results.jsonl", "junit.xml", "report.html", "manifest.json"):
        assert (out / name).stat().st_size > 0
    for stream in ("xen", "dom0", "domu1", "domu2"):
        assert (out / "console" / host / f"{stream}.log").stat().st_size > 0
    table = pyarrow.parquet.read_table(out / "history" / host / "load.parquet")
    assert table.num_rows >= SOME_LOAD

    lines = json.loads((out / f"lines-{host}.json").read_text())["files"]
    channels = lines["xen/common/event_channel.c"]
    assert 200 < len(channels["ran"]) < len(channels["code"])
    (sends,) = (
        number
        for number, line in enumerate(channels["text"].splitlines(), 1)
        if line.startswith("int evtchn_send(")
    )
    assert any(sends < line < sends + 60 for line in channels["ran"])
    (dump,) = (
        number
        for number, line in enumerate(channels["text"].splitlines(), 1)
        if "domain_dump_evtchn_info(struct domain" in line
    )  # debug key e, which nobody presses
    assert not any(dump < line < dump + 30 for line in channels["ran"])
    assert any(dump < line < dump + 30 for line in channels["code"])
    told = harness("coverage", "--lines", str(out), "--json", timeout=60).document
    assert told["together"][0]["files"]["xen/common/event_channel.c"]["ran"] == len(channels["ran"])

    assert machines(host) == []
    assert scratch_directories() <= before

    again = harness("check", str(out / "history" / host / "load.parquet"), "--json", timeout=120)
    assert again.document["verdict"] == "PASS"


def test_what_an_older_release_does_otherwise_is_no_failure(tmp_path: Path) -> None:
    from_apt("4.14")
    lab = tmp_path / "lab.yaml"
    lab.write_text("hosts: {dom0-only: {arch: arm64, domus: 0}}\n")
    words = ["--host", "dom0-only", "--lab", str(lab), "--flavour", "rwlock"]
    ran = harness("run", *words, "--xen-release", "4.14", "--out", str(tmp_path / "out"), "--json")
    assert ran.code == 0, ran.stderr
