# SPDX-License-Identifier: GPL-2.0-or-later
"""The choice of accelerator: from facts, then from one trial that is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cache
from harness.arch import Arch
from harness.machine import accel
from harness.machine.accel import Facts
from harness.verdict import LabError

GOOD = Facts("x86_64", "", frozenset({"svm", "fpu"}), "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("arch", "seen", "words"),
    [
        (Arch.X86_64, GOOD, ""),
        (Arch.X86_64, Facts("x86_64", "", frozenset({"vmx"}), ""), ""),
        (Arch.X86_64, Facts("x86_64", "no /dev/kvm", frozenset({"svm"}), "1"), "no /dev/kvm"),
        (Arch.X86_64, Facts("x86_64", "", frozenset({"fpu"}), ""), "neither svm nor vmx"),
        (Arch.X86_64, Facts("x86_64", "", frozenset({"vmx"}), "N"), "nested"),
        (Arch.ARM64, GOOD, "x86_64 guests only"),
        (Arch.ARM64, Facts("aarch64", "", frozenset(), ""), "EL2"),
    ],
)
def test_obstacles(arch: Arch, seen: Facts, words: str) -> None:
    found = accel.obstacle(arch, seen)
    assert (words in found) if words else found == ""


def test_facts_are_read_from_the_machine(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nflags\t\t: fpu svm\n")
    module = tmp_path / "sys/module/kvm_amd/parameters"
    module.mkdir(parents=True)
    (module / "nested").write_text("1\n")
    seen = accel.facts(tmp_path)
    assert seen.flags == {"fpu", "svm"}
    assert (seen.kvm, seen.nested) == ("no /dev/kvm", "1")


def test_a_failed_trial_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "facts", lambda: GOOD)
    trials = []

    def trial() -> str:
        trials.append(1)
        return "it span in its instruction emulator"

    for _ in range(2):
        choice = accel.choose("auto", Arch.X86_64, trial)
        assert (choice.accel, choice.reason) == ("tcg", "it span in its instruction emulator")
    assert len(trials) == 1


def test_a_good_trial_gives_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "facts", lambda: GOOD)
    assert accel.choose("auto", Arch.X86_64, lambda: "").accel == "kvm"


def test_kvm_asked_for_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "facts", lambda: GOOD)
    with pytest.raises(LabError, match="accel: auto or tcg"):
        accel.choose("kvm", Arch.ARM64, lambda: "")


def test_tcg_asked_for_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "facts", lambda: pytest.fail("looked"))
    assert accel.choose("tcg", Arch.X86_64, lambda: "").accel == "tcg"


@pytest.mark.parametrize("later", ["", "it span in its instruction emulator"])
def test_a_trial_that_says_nothing_about_kvm_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    """Trust: libvirt was down once, and KVM was not used on this computer ever again."""
    monkeypatch.setattr(accel, "facts", lambda: GOOD)

    def no_libvirt() -> str:
        raise accel.NotTried("cannot reach libvirt: no socket")

    first = accel.choose("auto", Arch.X86_64, no_libvirt)
    assert (first.accel, first.reason) == (
        "tcg",
        "not known whether KVM can run Xen here: cannot reach libvirt: no socket",
    )
    with pytest.raises(LabError, match=r"^not known whether KVM can .*: cannot reach libvirt"):
        accel.choose("kvm", Arch.X86_64, no_libvirt)
    assert accel.choose("auto", Arch.X86_64, lambda: later).accel == ("tcg" if later else "kvm")
