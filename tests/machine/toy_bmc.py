# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC for Redfish that gives answers one after the other, as a vendor's would."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import served

_ROOT = "/redfish/v1/"
_SYSTEM = "/redfish/v1/Systems/1"
_RESET = f"{_SYSTEM}/Actions/ComputerSystem.Reset"
_STATES = {"On": "On", "ForceOn": "On", "ForceOff": "Off"}


@dataclass(frozen=True)
class Answer:
    """To "GET" of the system, or to "POST" of a reset of type ``reset``."""

    method: str
    reset: str = ""
    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)


class Bmc:
    """The answers are given in turn; the last one to a request is given again and again.

    "RESETS" before all others has the types of reset that there are.

    States that come after a reset are told once it has succeeded; where there are none, the state
    is then what it asked for.  ``told`` has every state that was told, ``resets`` every reset.
    """

    def __init__(self, answers: list[Answer]) -> None:
        self._allowed = ["On", "ForceOff", "GracefulShutdown", "Nmi"]
        if answers and answers[0].method == "RESETS":
            self._allowed = list(answers.pop(0).body["allowed"])
        self._answers = answers
        self._state: object = "Off"
        self.told: list[object] = []
        self.resets: list[str] = []

    def system(self) -> dict[str, Any]:
        """Return the document of the system."""
        if self._answers and self._answers[0].method == "GET":
            self._state = self._answers[0].body["PowerState"]
            if len(self._answers) > 1 and self._answers[1].method == "GET":
                del self._answers[0]
        self.told.append(self._state)
        action = {
            "target": _RESET,
            "ResetType@Redfish.AllowableValues": self._allowed,
        }
        return {
            **{"@odata.id": _SYSTEM, "Id": "1", "Name": "system", "PowerState": self._state},
            "Actions": {"#ComputerSystem.Reset": action},
        }

    def reset(self, kind: str) -> Answer:
        """Return the answer to a reset."""
        self.resets.append(kind)
        mine = [at for at, one in enumerate(self._answers) if one.reset == kind]
        if not mine:
            return Answer("POST", kind, 400)
        answer = self._answers[mine[0]]
        if answer.status < 300:
            del self._answers[: mine[0] + 1]
            self._state = _STATES.get(kind)
        elif len(mine) > 1:
            del self._answers[mine[0]]
        return answer


@contextmanager
def serve(bmc: Bmc) -> Iterator[str]:
    """Serve ``bmc`` on loopback; yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            documents: dict[str, dict[str, Any]] = {
                _ROOT.rstrip("/"): {
                    "@odata.id": _ROOT,
                    "Id": "root",
                    "Name": "root",
                    "RedfishVersion": "1.6.0",
                    "Systems": {"@odata.id": "/redfish/v1/Systems"},
                },
                "/redfish/v1/Systems": {
                    "@odata.id": "/redfish/v1/Systems",
                    "Name": "systems",
                    "Members": [{"@odata.id": _SYSTEM}],
                },
            }
            path = self.path.rstrip("/")
            if path == _SYSTEM:
                self._send(200, bmc.system())
            else:
                self._send(200 if path in documents else 404, documents.get(path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            if self.path != _RESET:  # it has no sessions
                self._send(404, {})
                return
            answer = bmc.reset(str(body.get("ResetType")))
            self._send(answer.status, answer.body)

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = b"" if status == 204 else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep requests out of the test's output."""

    with served.serve(Handler) as url:
        yield url
