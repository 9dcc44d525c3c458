"""A schedule in a file: enough to take the same steps again, and what became of them then."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.arch import Arch
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.walk import Outcome, Walked
from harness.model.explore.interleavings import Interleaving as Order
from harness.model.explore.interleavings import replay
from harness.model.lock.locks import LOCKS
from harness.verdict import ConfigError

VERSION = 1


class TurnTaken(BaseModel):
    """One turn: a CPU, the model's step, the variables after it as they were seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cpu: Annotated[int, Field(ge=0)]
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
    outcome: Outcome
    why: str
    turns: tuple[TurnTaken, ...]  # the whole order; ``seen`` is empty where it was not reached

    def order(self) -> Order:
        """Return the schedule as a path of the model; ConfigError if the model has no such path."""
        system = SCENARIOS[self.scenario].system(self.design, self.arch)
        try:
            path = replay(system, [turn.cpu for turn in self.turns])
        except ValueError as error:
            raise ConfigError(f"no order of the model: {error}", where="turns") from error
        for number, (turn, taken) in enumerate(zip(path, self.turns, strict=True), 1):
            if turn.step.name != taken.step:
                raise ConfigError(
                    f"turn {number} is {taken.step!r} in the file, {turn.step.name!r} in the model",
                    where="turns",
                    hint="it was made by another version of the harness: run the scenario again",
                )
        return path


def to_file(
    scenario: str,
    order: Order,
    walked: Walked,
    *,
    flavour: str,
    design: str,
    arch: Arch,
    host: str,
    build_id: str,
) -> ScheduleFile:
    """Return what has to be kept of a schedule that was tried."""
    seen = [dict(row.machine) for row in walked.rows]
    seen += [{}] * (len(order) - len(seen))
    turns = tuple(
        TurnTaken(cpu=turn.thread, step=turn.step.name, seen=values)
        for turn, values in zip(order, seen, strict=True)
    )
    return ScheduleFile(
        scenario=scenario,
        flavour=flavour,
        design=design,
        arch=arch,
        host=host,
        build_id=build_id,
        outcome=walked.outcome,
        why=walked.why,
        turns=turns,
    )


def read_file(path: Path) -> ScheduleFile:
    """Read a schedule; ConfigError says what is wrong with the file, and where in it."""
    try:
        found = ScheduleFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"no schedule: {first['msg']}", where=f"{path}: {field}" if field else str(path)
        ) from error
    if found.scenario not in SCENARIOS:
        raise ConfigError(
            f"no scenario {found.scenario!r}",
            where=f"{path}: scenario",
            hint=f"there are {', '.join(SCENARIOS)}",
        )
    if found.design not in LOCKS:
        raise ConfigError(f"no lock {found.design!r}", where=f"{path}: design")
    return found
