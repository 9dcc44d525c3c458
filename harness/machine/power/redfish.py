# SPDX-License-Identifier: GPL-2.0-or-later
"""Redfish, by the package sushy (the extra ``redfish``)."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

from harness.config.physical import RedfishPower
from harness.machine.power import State, Unsupported
from harness.machine.power.extras import module
from harness.verdict import LabError

_SECONDS = 15.0  # of one request
# Base.SessionLimitExceeded, or an iDRAC's RAC0218; Base.PasswordChangeRequired, or its SWC1908.
_NO_SESSION = re.compile(
    r"SessionLimitExceeded|RAC0218|maximum number of user sessions|simultaneous"
)
_OLD_PASSWORD = re.compile(r"PasswordChangeRequired|SWC1908|password .*must be changed")


class Redfish:
    """A BMC that speaks Redfish."""

    def __init__(self, section: RedfishPower) -> None:
        self._section = section
        self._sushy: Any = module("sushy", "redfish")
        self._found: Any = None

    @property
    def name(self) -> str:
        """The BMC's address."""
        return f"redfish {self._section.url}"

    @property
    def tells_state(self) -> bool:
        """Every BMC does, though now and then its state is null."""
        return True

    def on(self) -> None:
        """ComputerSystem.Reset: On, or ForceOn where that is all there is."""
        self._reset("ON", "FORCE_ON")

    def off(self) -> None:
        """ComputerSystem.Reset: ForceOff."""
        self._reset("FORCE_OFF")

    def soft_off(self) -> None:
        """ComputerSystem.Reset: GracefulShutdown."""
        self._reset("GRACEFUL_SHUTDOWN")

    def nmi(self) -> None:
        """ComputerSystem.Reset: Nmi."""
        self._reset("NMI")

    def state(self) -> State:
        """Return ComputerSystem.PowerState; PoweringOn counts as off, and PoweringOff as on."""
        with self._explained():
            system = self._system()
            system.refresh()
            value = str(getattr(system.power_state, "value", system.power_state))
        states: dict[str, State] = {
            "On": "on",
            "PoweringOn": "off",
            "Off": "off",
            "PoweringOff": "on",
        }
        return states.get(value, "unknown")

    def _reset(self, *kinds: str) -> None:
        """Order the first of ``kinds`` that the BMC has."""
        with self._explained():
            system = self._system()
            allowed = system.get_allowed_reset_system_values()
            values = [getattr(self._sushy.ResetType, kind) for kind in kinds]
            fitting = [value for value in values if not allowed or value in allowed]
            if not fitting:
                what = f"the BMC has no reset of type {values[0].value}"
                raise Unsupported(what, where=self.name)
            system.reset_system(fitting[0])

    def _system(self) -> Any:
        if self._found is None:
            section = self._section
            logging.getLogger("sushy").setLevel(logging.CRITICAL)  # our exceptions say it all
            password = section.password.read()
            auth = self._sushy.auth.SessionOrBasicAuth(username=section.user, password=password)
            root = self._sushy.Sushy(
                section.url,
                auth=auth,
                verify=section.verify,
                server_side_retries=1,
                read_timeout=_SECONDS,
            )
            self._found = root.get_system(section.system)
        return self._found

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        errors = self._sushy.exceptions
        try:
            yield
        except errors.AccessError as error:
            self._found = None
            what = "the BMC refuses the user or the password"
            if _OLD_PASSWORD.search(_told(error)):
                what = "the BMC wants the user's first password to be changed before anything else"
            elif getattr(error, "status_code", 0) == 403:
                what = "the BMC: the user's role does not allow it"
            raise LabError(what, where=self.name) from None
        except errors.ConnectionError as error:
            self._found = None
            theirs = repr(error)  # sushy keeps no cause, but OpenSSL's name of it
            if "CERTIFICATE_VERIFY_FAILED" in theirs:
                raise LabError(
                    "the BMC's certificate is not trusted",
                    where=self.name,
                    hint="set verify in lab.yaml: the file of its CA, or false",
                ) from None
            raise LabError("the BMC does not answer", where=self.name) from None
        except errors.SushyError as error:  # keeps its session: a BMC has few of them
            what = f"the BMC answers: {error}"
            if _NO_SESSION.search(_told(error)):
                what = (
                    "the BMC answers but has no session left: end some at its own page, or wait "
                    "until they end (half an hour)"
                )
            raise LabError(what, where=self.name) from None


def _told(error: Any) -> str:
    """Return all that the BMC said with a refusal: sushy's own text has its first line only."""
    return f"{error} {getattr(error, 'body', '')}"
