# SPDX-License-Identifier: GPL-2.0-or-later
"""Replay files: an order of steps to be forced again, and its outcome when it was written.

A file has a checksum of all its other values, so that damage is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from harness.arch import Arch
from harness.config import json_file
from harness.interleave.order_runner import OrderOutcome, OrderResult
from harness.interleave.scenarios import SCENARIOS
from harness.model.explore.interleavings import Interleaving as Order
from harness.model.explore.interleavings import replay
from harness.model.lock.locks import LOCKS
from harness.results.seal import checksum
from harness.verdict import ConfigError

VERSION = 1


class RecordedStep(BaseModel):
    """One step: the thread, the model's step, and the variables that were read after it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cpu: Annotated[int, Field(ge=0)]  # number of the thread
    step: str
    seen: dict[str, int] = {}


class ScheduleFile(BaseModel):
    """``schedule-*.json``: see docs/interleave.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Annotated[int, Field(ge=VERSION, le=VERSION)] = VERSION
    scenario: str
    flavour: str
    design: str  # the flavour whose model the order comes from
    arch: Arch
    host: str
    build_id: str
    outcome: OrderOutcome
    why: str
    # The steps of the whole order; ``seen`` is empty for those that were not taken.
    turns: tuple[RecordedStep, ...]
    crc32: str = ""  # of the other fields; "": an older harness wrote the file

    def order(self) -> Order:
        """Return the order, as the model has it; ConfigError if the model has no such order."""
        system = SCENARIOS[self.scenario].system(self.design, self.arch)
        try:
            path = replay(system, [step.cpu for step in self.turns])
        except ValueError as error:
            raise ConfigError(f"no order of the model: {error}", where="turns") from error
        for number, (scheduled, recorded) in enumerate(zip(path, self.turns, strict=True), 1):
            if scheduled.step.name != recorded.step:
                raise ConfigError(
                    f"step {number} is {recorded.step!r} in the file, "
                    f"{scheduled.step.name!r} in the model",
                    where="turns",
                    hint="another version of the harness wrote the file: run the scenario again",
                )
        return path


def to_file(
    scenario: str,
    order: Order,
    result: OrderResult,
    *,
    flavour: str,
    design: str,
    arch: Arch,
    host: str,
    build_id: str,
) -> ScheduleFile:
    """Return the replay file of an order that was tried."""
    seen = [dict(step.machine) for step in result.steps]
    seen += [{}] * (len(order) - len(seen))
    steps = tuple(
        RecordedStep(cpu=step.thread, step=step.step.name, seen=values)
        for step, values in zip(order, seen, strict=True)
    )
    file = ScheduleFile(
        scenario=scenario,
        flavour=flavour,
        design=design,
        arch=arch,
        host=host,
        build_id=build_id,
        outcome=result.outcome,
        why=result.why,
        turns=steps,
    )
    return file.model_copy(update={"crc32": checksum(file.model_dump(mode="json"))})


def read_file(path: Path) -> ScheduleFile:
    """Read a replay file; ConfigError says what is wrong with it, and where."""
    found, document = json_file.read(
        path,
        ScheduleFile,
        kind="a replay file",
        hint="give a schedule-*.json that `interleave run` has written",
    )
    if found.scenario not in SCENARIOS:
        raise ConfigError(
            f"no scenario {found.scenario!r}",
            where=f"{path}: scenario",
            hint=f"there are {', '.join(SCENARIOS)}",
        )
    if found.design not in LOCKS:
        raise ConfigError(f"no lock {found.design!r}", where=f"{path}: design")
    if found.crc32 and found.crc32 != checksum(document):
        raise ConfigError(
            "not as it was written: wrong checksum",
            where=f"{path}: crc32",
            hint="get the file again; if you have changed it yourself, remove crc32",
        )
    return found
