"""A hung Xen, explained by what it prints itself when a debug key is pressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import hung
from tests.real.conftest import harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.mark.parametrize("host", ["qemu-x86_64", "qemu-arm64"])
def test_the_console_explains_a_hang(host: str, tmp_path: Path) -> None:
    words = ["--host", host, "--flavour", "poll-leak", "--out", str(tmp_path / "out"), "--json"]
    ran = harness("run", *words, f"{hung.__file__}::test_the_console_explains")
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    assert tests["the-console-explains"]["verdict"] == "PASS", ran.stderr
