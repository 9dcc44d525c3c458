# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots: every host, operation and phase is drawn, in the page's own colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from harness.results import plots
from harness.results.records import PHASES
from harness.results.store import HostRun, load

from . import runs


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostRun, ...]:
    return load(runs.good(tmp_path_factory.mktemp("plots") / "r").path).hosts


def _texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]


def _all(hosts: tuple[HostRun, ...]) -> list[str]:
    spread = plots.latency_range(hosts)
    return [plots.throughput(hosts), plots.latency(hosts[0], spread), plots.phases(hosts)]


def test_all_colours_and_sizes_are_the_pages(hosts: tuple[HostRun, ...]) -> None:
    for svg in _all(hosts):
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
        head = svg[: svg.index(">")]
        assert "viewBox" in head
        assert "width" not in head
        assert "font-family" not in svg


def test_text_stays_text(hosts: tuple[HostRun, ...]) -> None:
    throughput, latency, phases = (_texts(svg) for svg in _all(hosts))
    assert set(runs.HOSTS) <= set(throughput)
    assert {"send", "alloc_unbound", "dom0", "domu2"} <= set(latency)
    assert {*PHASES, *runs.HOSTS} <= set(phases)


def test_the_same_run_gives_the_same_bytes(hosts: tuple[HostRun, ...]) -> None:
    assert _all(hosts) == _all(hosts)


def test_ids_of_two_plots_in_one_page_do_not_clash(hosts: tuple[HostRun, ...]) -> None:
    spread = plots.latency_range(hosts)
    one, other = (set(re.findall(r' id="([^"]+)"', plots.latency(h, spread))) for h in hosts)
    assert one.isdisjoint(other)


def test_hosts_share_the_axis_of_latency(hosts: tuple[HostRun, ...]) -> None:
    low, high = plots.latency_range(hosts)
    for host in hosts:
        for entry in host.latencies:
            assert low < entry.p50_us <= entry.max_us < high


def test_without_figures_there_is_no_plot(hosts: tuple[HostRun, ...]) -> None:
    bare = replace(hosts[0], samples=(), latencies=(), seconds={})
    spread = plots.latency_range([bare])
    assert (plots.throughput([bare]), plots.latency(bare, spread), plots.phases([bare])) == (
        "",
        "",
        "",
    )


def test_no_name_is_taken_for_mathematics(hosts: tuple[HostRun, ...]) -> None:
    odd = replace(hosts[0], name="a$x^{$b\x1b\ud800")
    assert "a$x^{$b??" in _texts(plots.throughput([odd]))


def test_zeros_can_be_drawn(hosts: tuple[HostRun, ...]) -> None:
    host = hosts[0]
    zero = replace(
        host,
        seconds={"boot": 0.0, "own": 0.0},
        samples=host.samples[:1],
        latencies=(replace(host.latencies[0], p50_us=0.0, p90_us=0.0, p99_us=0.0, max_us=0.0),),
    )
    for svg in _all((zero,)):
        assert svg.startswith("<svg")
