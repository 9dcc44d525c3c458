# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection to this computer's libvirt: qemu:///system for root, else qemu:///session.

libvirt itself starts the daemon of a session.  systemd starts the daemon of the system; without
systemd (containers, rescue systems) we start virtlogd and libvirtd, with ``--timeout`` so that
they end when nobody uses them.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time

import libvirt

from harness import command
from harness.verdict import LabError

_IDLE_SECONDS = 120  # a daemon that we started ends after it was idle for so long
_START_SECONDS = 30
# A PATH without the folder of the distribution's QEMUs: libvirt would probe each of them at every
# start (seen: 10 s).  The QEMU whose full path a machine names is probed at its first use only.
_DAEMON_PATH = "/usr/sbin:/sbin"
_loop_lock = threading.Lock()
_loop_running = False


def start_event_loop() -> None:
    """Run libvirt's event loop in a daemon thread (once): keepalives need it.

    Must come before the first connection.
    """
    global _loop_running
    with _loop_lock:
        if _loop_running:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # exceptions say it all
        libvirt.virEventRegisterDefaultImpl()

        def turn() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
        _loop_running = True


def default_uri() -> str:
    """Return the default URI for the user that we run as."""
    return "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


def connect(uri: str | None = None) -> libvirt.virConnect:
    """Connect to the libvirt that starts our machines; LabError says what to install or start."""
    start_event_loop()
    chosen = uri or default_uri()
    try:
        return libvirt.open(chosen)
    except libvirt.libvirtError as error:
        if chosen != "qemu:///system" or os.geteuid() != 0:
            raise LabError(
                f"cannot reach libvirt: {error.get_error_message()}",
                where=chosen,
                hint="run `evtchn-harness doctor`",
            ) from error
    _start_daemons()
    return _open_patiently(chosen)


def mend(message: str) -> bool:
    """Start the daemon that ``message`` of libvirt says is missing; return whether to try again.

    A virtlogd that we started ends when it is idle, sometimes before libvirtd does.
    """
    if "virtlogd" not in message or os.geteuid() != 0:
        return False
    _start_daemons()
    return True


def _start_daemons() -> None:
    """Start virtlogd and libvirtd; both detach from us and end when they are idle.

    Not by ``command.run``: it would kill them at our end, and a parallel run may still use them.
    """
    package = "libvirt-daemon-system"
    for program in ("virtlogd", "libvirtd"):
        argv = [command.which(program, package), "--daemon", "--timeout", str(_IDLE_SECONDS)]
        subprocess.run(  # exits non-zero when another run was faster: _open_patiently decides
            argv,
            check=False,
            env={**os.environ, "PATH": _DAEMON_PATH},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _open_patiently(uri: str) -> libvirt.virConnect:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return libvirt.open(uri)
        except libvirt.libvirtError as error:
            if time.monotonic() > deadline:
                raise LabError(
                    f"libvirtd does not answer: {error.get_error_message()}",
                    where=uri,
                    hint="see /var/log/libvirt, then `evtchn-harness doctor`",
                ) from error
            time.sleep(0.2)
