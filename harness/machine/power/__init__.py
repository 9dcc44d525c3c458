# SPDX-License-Identifier: GPL-2.0-or-later
"""Power of a server: a driver for each sort of switch, and the chain that tries them in turn.

A switch may report success and do nothing: after every action the chain asks for the state until
it is the wanted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from harness.config.physical import (
    CommandPower,
    IpmiPower,
    LabgridPower,
    PowerDriver,
    RedfishPower,
)
from harness.verdict import HarnessError, LabError

State = Literal["on", "off", "unknown"]
_PAUSE = 0.5
_AGAIN_SECONDS = 2.0  # between two orders, the first of which was refused
_OFF_SECONDS = 2.0  # until capacitors are empty: IPMI's own cycle wants one second at least


class Power(Protocol):
    """One way to switch a server.  Every method raises LabError when the switch refuses.

    A method raises ``Unsupported`` if the switch cannot do that at all.  ``state`` is "unknown" if
    the switch does not tell it now; ``tells_state`` says whether it ever does.
    """

    @property
    def tells_state(self) -> bool:
        """Return whether the switch can say if the server has power."""
        ...

    @property
    def name(self) -> str:
        """Return how messages call this switch: "ipmi bmc-1"."""
        ...

    def on(self) -> None:
        """Switch on."""
        ...

    def off(self) -> None:
        """Switch off, hard."""
        ...

    def soft_off(self) -> None:
        """Ask the system to shut down (ACPI's power button)."""
        ...

    def nmi(self) -> None:
        """Send a non-maskable interrupt."""
        ...

    def state(self) -> State:
        """Return whether the server has power now."""
        ...


class Unsupported(LabError):
    """The switch has no such button."""


def driver(section: PowerDriver) -> Power:
    """Return the driver that ``section`` of lab.yaml asks for."""
    match section:
        case IpmiPower():
            from harness.machine.power.ipmi import Ipmi

            return Ipmi(section)
        case RedfishPower():
            from harness.machine.power.redfish import Redfish

            return Redfish(section)
        case CommandPower():
            from harness.machine.power.program import Program

            return Program(section)
        case LabgridPower():
            from harness.machine.power.labgrid import Labgrid

            return Labgrid(section)


class Chain:
    """Several switches of one server: the next one is used if one fails or has no effect.

    ``seconds`` is how long the wanted state may take to show after each.  ``before`` is called
    before every order, and raises if the server is not ours to switch: then no switch is tried.
    """

    def __init__(
        self,
        drivers: Sequence[Power],
        *,
        seconds: float,
        where: str,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._drivers = drivers
        self._seconds = seconds
        self._where = where
        self._before = before

    def on(self) -> None:
        """Switch on, and wait until the state is "on"."""
        self._reach("on", lambda switch: switch.on())

    def off(self) -> None:
        """Switch off, and wait until the state is "off"."""
        self._reach("off", lambda switch: switch.off())

    def cycle(self) -> None:
        """Switch off, wait until the state is "off" and a moment longer, and switch on."""
        self.off()
        time.sleep(_OFF_SECONDS)
        self.on()

    def soft_off(self, seconds: float) -> None:
        """Ask for a shutdown; switch off hard when it has not come after ``seconds``."""
        for switch in self._drivers:
            self._before()
            try:
                switch.soft_off()
                if self._wait(switch, "off", seconds) == "off":
                    return
            except LabError:
                continue
        self.off()

    def nmi(self) -> None:
        """Send an NMI by the first switch that can."""
        problems = []
        for switch in self._drivers:
            self._before()
            try:
                switch.nmi()
                return
            except LabError as error:
                problems.append(f"{switch.name}: {error.what}")
        raise LabError(f"no NMI: {'; '.join(problems)}", where=self._where)

    def state(self) -> State:
        """Return the first state that a switch knows; LabError when no switch answers."""
        problems: list[str] = []
        for switch in self._drivers:
            try:
                state = switch.state()
            except LabError as error:
                problems.append(f"{switch.name}: {error.what}")
                continue
            if state != "unknown":
                return state
        if len(problems) == len(self._drivers):
            raise LabError(f"no switch answers: {'; '.join(problems)}", where=self._where)
        return "unknown"

    def _reach(self, wanted: State, act: Callable[[Power], None]) -> None:
        problems: list[str] = []
        for switch in self._drivers:
            self._before()
            try:
                problem = self._try(switch, wanted, act)
            except HarnessError as error:
                problem = error.what
            if not problem:
                return
            problems.append(f"{switch.name}: {problem}")
        raise LabError(
            f"cannot switch it {wanted}: {'; '.join(problems)}",
            where=self._where,
            hint="look at it with `evtchn-harness lab check`; add another driver under power",
        )

    def _try(self, switch: Power, wanted: State, act: Callable[[Power], None]) -> str:
        """Order ``wanted`` and wait for it; return why it did not come, "" if it did.

        Switches refuse an order for a state that they have already (a Dell's IPMI: 0xD5, iDRAC:
        409, iLO: 400), and for some seconds after another order.  So after a refusal the state
        counts, and the order is repeated for as long as the switch answers.
        """
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                act(switch)
            except Unsupported:
                raise
            except HarnessError as refusal:
                if switch.tells_state and switch.state() == wanted:
                    return ""
                if not switch.tells_state or time.monotonic() > deadline:
                    return refusal.what
                time.sleep(min(_AGAIN_SECONDS, self._seconds))
                continue
            seen = self._wait(switch, wanted, self._seconds)
            if seen == wanted or not switch.tells_state:
                return ""
            state = "it does not say whether the server has power"
            if seen != "unknown":
                state = f"the server is still {seen}"
            return f"it took the order, but {self._seconds:.0f} s later {state}"

    def _wait(self, switch: Power, wanted: State, seconds: float) -> State:
        """Ask for the state until it is ``wanted``, or for ``seconds``; return the last answer.

        BMCs are busy just after an order: a question that fails then is asked again.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                state = switch.state()
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
                continue
            is_told = state != "unknown" or not switch.tells_state
            if (state in (wanted, "unknown") and is_told) or time.monotonic() > deadline:
                return state
            time.sleep(_PAUSE)


def chain(
    sections: Sequence[PowerDriver],
    *,
    seconds: float,
    where: str,
    before: Callable[[], None] = lambda: None,
) -> Chain:
    """Return the chain of a server's ``power`` sections; ``before`` as in ``Chain``."""
    drivers = [driver(section) for section in sections]
    return Chain(drivers, seconds=seconds, where=where, before=before)
