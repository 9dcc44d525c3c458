# SPDX-License-Identifier: GPL-2.0-or-later
"""Hold the lock in the machine code of the Xen under test against the model, while it boots."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import command, unforeseen
from harness.binary import kept
from harness.hypervisor.build import Build
from harness.results.records import LockCode, Test, Witness
from harness.run.recorder import Recorder
from harness.verdict import HarnessError, Verdict

TEST = "lock-code"


@contextmanager
def judging(built: Build, host: str, recorder: Recorder) -> Iterator[Callable[[], None]]:
    """Judge the lock functions of ``built`` in another process while the block goes on.

    The function that the block gets waits for the verdict and records it.  So does an error of the
    block: a Xen that does not come up is judged, too.
    """
    with contextlib.ExitStack() as stack:
        if not recorder.has_lock_code(host) and built.has_symbols:
            found = built.build_id, built.design
            if not kept.is_kept(*found):
                words = kept.words_to_keep(built.syms, *found)
                # Where it fails, judge_lock_code() does the same here, and tells why it fails.
                stack.enter_context(command.child(words, stdout=subprocess.DEVNULL))
        try:
            yield lambda: judge_lock_code(built, host, recorder)
        except Exception:
            judge_lock_code(built, host, recorder)
            raise


def judge_lock_code(built: Build, host: str, recorder: Recorder) -> None:
    """Record what the lock functions of ``built`` are, once for ``host``.

    A copy that is refuted is a test that FAILed, with its witness as the story.  What could not be
    judged is recorded as not covered, with the reason, and changes no verdict.
    """
    if recorder.has_lock_code(host):
        return
    began = time.monotonic()
    found = _found(built, host)
    recorder.add(found)
    if found.verdict == "refuted":
        seconds = round(time.monotonic() - began, 3)
        recorder.add(Test(host, TEST, Verdict.FAIL, seconds, found.message, story(found)))


def story(found: LockCode) -> str:
    """Return the witnesses of ``found`` as lines for people."""
    return "\n".join(line for witness in found.witnesses for line in (witness.what, *witness.trace))


def _found(built: Build, host: str) -> LockCode:
    if not built.has_symbols:
        return LockCode(
            host, "not covered", built.design, message="the distribution's own build has no symbols"
        )
    try:
        document = kept.kept_document(built.syms, built.build_id, built.design)
    except HarnessError as error:
        return LockCode(host, "not covered", built.design, message=str(error))
    except Exception as error:  # a fault of ours: it says nothing about this Xen, which is tested
        return LockCode(host, "not covered", built.design, message=unforeseen.said(error))
    return _record(host, document)


def _record(host: str, document: dict[str, Any]) -> LockCode:
    witnesses = tuple(_witness(one) for one in document["refuted"])
    return LockCode(
        host=host,
        verdict=document["verdict"],
        model=document["model"],
        memory=document["memory"],
        copies=len(_copies(document)),
        coverage=document["coverage"],
        seconds=document["seconds"],
        message=_message(document, witnesses),
        witnesses=witnesses,
    )


def _witness(one: dict[str, Any]) -> Witness:
    if "function" not in one:
        return Witness(f"allowed by this machine's memory: {one['property']}", tuple(one["trace"]))
    inlined = f" in {one['caller']}" if one["caller"] != one["function"] else ""
    what = (
        f"{one['function']}{inlined} at {one['address']} {one['instruction']} ({one['line']}): "
        f"{one['binary']}; the model: {one['model']}"
    )
    return Witness(what, tuple(one["trace"]))


def _message(document: dict[str, Any], witnesses: tuple[Witness, ...]) -> str:
    if document["verdict"] == "refuted":
        return witnesses[0].what
    if document["verdict"] == "as modelled":
        return ""
    publishing = [one for one in document["functions"] if one["publishes"]]
    for ones, what in (
        (_copies(document), "copies of lock functions"),
        (publishing, "functions that publish or read what is published"),
    ):
        gaps = [(one, gap) for one in ones for gap in one["not_covered"]]
        if gaps:
            number = len({(one["name"], one["address"]) for one, _ in gaps})
            one, gap = gaps[0]
            return (
                f"{number} of {len(ones)} {what}, first {one['name']} in {one['caller']} "
                f"at {gap['address']}: {gap['why']}"
            )
    return "not every state of it was explored"


def _copies(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in document["functions"] if not one["publishes"]]
