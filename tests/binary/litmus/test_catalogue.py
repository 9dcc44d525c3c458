# SPDX-License-Identifier: GPL-2.0-or-later
"""The Armv8 model, and the lifter, against the answers that herdtools7 has published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.binary.litmus.catalogue import Compared, compare
from harness.cli import litmus
from harness.verdict import EXIT_LAB, ConfigError

HERDTOOLS7 = "HERDTOOLS7"  # names a checkout of https://github.com/herd/herdtools7


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    checkout = os.environ.get(HERDTOOLS7, "")
    if not checkout:
        pytest.skip(f"{HERDTOOLS7} names no checkout of herdtools7")
    return list(compare(Path(checkout)))


def test_no_disagreement(compared: list[Compared]) -> None:
    assert [one for one in compared if not one.agrees] == []


def test_most_tests_of_plain_accesses_are_covered(compared: list[Compared]) -> None:
    plain = [one for one in compared if one.folder.startswith("catalogue")]
    covered = [one for one in plain if not one.outside]
    assert len(covered) >= 195
    mixed = [one for one in plain if "mixed" in one.folder]
    assert len(plain) - len(covered) <= len(mixed) + 10
    instructions = [one for one in compared if one.folder.startswith("herd") and not one.outside]
    assert len(instructions) >= 150


def test_a_folder_without_a_catalogue_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no catalogue of litmus tests"):
        list(compare(tmp_path))


def test_a_wrong_answer_is_a_disagreement(tmp_path: Path) -> None:
    folder = tmp_path / "catalogue" / "aarch64" / "tests"
    folder.mkdir(parents=True)
    (folder / "one.litmus").write_text(
        "AArch64 one\n{ 0:X1=x; }\n P0 ;\n MOV W0,#1 ;\n STR W0,[X1] ;\nexists (x=1)\n"
    )
    (folder / "kinds.txt").write_text("one Forbidden\ngone Allowed\n")
    (found,) = compare(tmp_path)
    assert (found.published, found.found, found.agrees) == ("Forbidden", "Allowed", False)


def test_a_catalogue_of_which_nothing_is_covered_does_not_agree(tmp_path: Path) -> None:
    folder = tmp_path / "catalogue" / "aarch64" / "tests"
    folder.mkdir(parents=True)
    (folder / "one.litmus").write_text("X86 one\n{}\n")
    (folder / "kinds.txt").write_bytes(b"one Forbidden\n\xff\xfe Allowed\n")
    ran = CliRunner().invoke(litmus.command, [str(tmp_path)], standalone_mode=False)
    assert "1 tests, 0 covered" in ran.stdout
    assert ran.return_value == EXIT_LAB
