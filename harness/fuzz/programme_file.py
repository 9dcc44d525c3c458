# SPDX-License-Identifier: GPL-2.0-or-later
"""Programmes in files: ``programme-*.json``, to be run again by ``fuzz --replay``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.config import json_file
from harness.fuzz.batches import Batch
from harness.fuzz.programme import MAX_STEPS, SLOTS, Bit, Flag, Step, What
from harness.fuzz.rounds import NOT_AT_ONCE
from harness.verdict import ConfigError

VERSION = 1
_BY_DOM0 = frozenset(
    {
        *("ALLOC_UNBOUND", "BIND_INTERDOMAIN", "BIND_VCPU", "CLOSE", "CLOSE_ALL", "MEET", "SEND"),
        *("STATUS", "UNMASK"),
    }
)
_WORD = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
_BYTE = Annotated[int, Field(ge=0, le=0xFF)]


def _one_of(kind: type[Enum]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in kind.__members__:
            raise ValueError(f"there is no {name}")
        return name

    return check


class StepInFile(BaseModel):
    """One step; what is left out is 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    what: Annotated[str, AfterValidator(_one_of(What))]
    flags: tuple[Annotated[str, AfterValidator(_one_of(Flag))], ...] = ()
    slot: Annotated[int, Field(ge=0, lt=SLOTS)] = 0
    number: _BYTE = 0
    port: _WORD = 0
    value: _WORD = 0

    def step(self) -> Step:
        """Return the step."""
        flags = 0
        for name in self.flags:
            flags |= Flag[name]
        return Step(What[self.what], flags, self.slot, self.number, self.port, self.value)


class ProgrammeFile(BaseModel):
    """``programme-*.json``: see docs/fuzz.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Annotated[int, Field(ge=VERSION, le=VERSION)] = VERSION
    host: str
    guest: str  # the type as which the bare guest ran: arm, pvh, hvm, pv
    flavour: str
    xen: str  # its version, or its commit
    seed: int
    message: str  # what Xen did that the model does not allow
    calls: tuple[str, ...] = ()  # the steps with their answers, for people
    vcpu: Annotated[int, Field(ge=0, le=1)]  # that makes the steps
    steps: Annotated[tuple[StepInFile, ...], Field(max_length=MAX_STEPS, min_length=1)]
    # Those of vCPU 1, if both run at once; ``steps`` are vCPU 0's then.
    second: Annotated[tuple[StepInFile, ...], Field(max_length=MAX_STEPS)] = ()
    # Those of dom0, if it makes some at once with vCPU 0 of the guest.
    dom0: Annotated[tuple[StepInFile, ...], Field(max_length=MAX_STEPS)] = ()
    times: Annotated[int, Field(ge=1, le=MAX_STEPS)] = (
        1  # both are made so often, with other delays
    )

    @property
    def other(self) -> tuple[StepInFile, ...]:
        """The steps of the second side."""
        return self.dom0 or self.second

    def batch(self) -> Batch:
        """Return the programme for a Hunt."""
        steps, second = (tuple(each.step() for each in part) for part in (self.steps, self.other))
        return Batch(steps, self.vcpu, second, self.times, in_dom0=bool(self.dom0))


def _check(programme: ProgrammeFile) -> None:
    """ValueError if ``programme`` has steps of which the model cannot say what must be seen."""
    steps, second = programme.steps, programme.other
    if programme.dom0 and programme.second:
        raise ValueError("it has second or dom0, not both")
    if steps[0].what != "BEGIN":
        raise ValueError("the first of its steps has to be BEGIN")
    for step in programme.dom0:
        if step.what not in _BY_DOM0 or step.flags not in ((), ("PORT_OF_SLOT",)):
            raise ValueError(f"dom0 makes no such step: {step.what} {' '.join(step.flags)}".strip())
    if any(step.what == "CLOSE_ALL" for step in (*steps, *programme.second)):
        raise ValueError("CLOSE_ALL is for dom0")
    for step in (*steps, *second):
        if step.what == "BIND_PIRQ":
            raise ValueError("BIND_PIRQ: the bare guest's are not followed")
        if step.what == "BEGIN" and step.flags:
            raise ValueError("BEGIN has no flags")
        if step.what in ("SET_BIT", "CLEAR_BIT") and step.number not in list(Bit):
            raise ValueError(f"{step.what}: there is no bit {step.number}")
        if step.what == "UNKNOWN_COMMAND" and step.value < What.UNKNOWN_COMMAND:
            raise ValueError(f"UNKNOWN_COMMAND: Xen knows EVTCHNOP {step.value}")
        if step.what == "UNKNOWN_COMMAND" and "VALUE_OF_SLOT" in step.flags:
            raise ValueError("UNKNOWN_COMMAND: its value is no slot's")
    if not second:
        return
    if programme.vcpu != 0:
        raise ValueError("with second or dom0, vcpu has to be 0")
    if second[0].what != "MEET":
        name = "dom0" if programme.dom0 else "second"
        raise ValueError(f"the first step of {name} has to be MEET")
    parts = [[step.what for step in part] for part in (steps, second)]
    meetings = max(part.count("MEET") for part in parts)  # of each vCPU, when both are repeated
    longest = max(len(part) - part.count("MEET") + meetings + 1 for part in parts)
    if programme.times > 1 and longest * programme.times > MAX_STEPS:
        raise ValueError(f"times: that makes more than {MAX_STEPS} steps")
    _check_at_once(programme)


def _check_at_once(programme: ProgrammeFile) -> None:
    """ValueError if a step is judged as several ones while the other vCPU makes something, too."""
    first, other = (_between_meetings(part) for part in (programme.steps, programme.other))
    names = {What(what).name for what in NOT_AT_ONCE - {What.TAKE}}
    nothing: list[StepInFile] = []
    for one, two in zip_longest(first, other, fillvalue=nothing):
        wrong = names.intersection(step.what for step in (*one, *two))
        if programme.dom0 and "CLOSE_ALL" in wrong:
            if one:
                raise ValueError("CLOSE_ALL is for dom0 while vCPU 0 waits at a MEET")
        elif wrong and two:
            waits = "dom0" if programme.dom0 else "vCPU 1"
            raise ValueError(f"{min(wrong)} is for vCPU 0 while {waits} waits at a MEET")
        # PV: both would use the same page.
        if two and any("FAULT_OUT" in step.flags for step in (*one, *two)):
            raise ValueError("FAULT_OUT is for vCPU 0 while vCPU 1 waits at a MEET")


def _between_meetings(steps: Sequence[StepInFile]) -> list[list[StepInFile]]:
    parts: list[list[StepInFile]] = [[]]
    for step in steps:
        if step.what == "MEET":
            parts.append([])
        elif step.what != "DELAY":
            parts[-1].append(step)
    return parts


def in_file(steps: Sequence[Step]) -> tuple[StepInFile, ...]:
    """Return ``steps`` as they are in a file."""
    return tuple(
        StepInFile(
            what=What(step.what).name,
            flags=tuple(str(flag.name) for flag in Flag if step.flags & flag),
            slot=step.slot,
            number=step.number,
            port=step.port,
            value=step.value,
        )
        for step in steps
    )


def write_file(path: Path, programme: ProgrammeFile) -> None:
    """Write ``programme`` to ``path``: a line for each step."""
    known = programme.model_dump(mode="json", exclude={"steps", "second", "dom0"})
    text = json.dumps(known, indent=1).removesuffix("\n}")
    other = [("dom0", programme.dom0)] if programme.dom0 else [("second", programme.second)]
    for name, steps in (("steps", programme.steps), *other):
        lines = [json.dumps(each.model_dump(exclude_defaults=True)) for each in steps]
        text += f',\n "{name}": [\n  ' + ",\n  ".join(lines) + "\n ]"
    path.write_text(f"{text}\n}}\n")


def read_file(path: Path) -> ProgrammeFile:
    """Return the programme in ``path``; ConfigError says what is wrong with it, and where."""
    hint = "give a programme-*.json that `fuzz` has written"
    programme, _ = json_file.read(path, ProgrammeFile, kind="a programme", hint=hint)
    try:
        _check(programme)
    except ValueError as error:
        raise ConfigError(f"not a programme: {error}", where=str(path), hint=hint) from error
    return programme
