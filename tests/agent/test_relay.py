# SPDX-License-Identifier: GPL-2.0-or-later
"""The relay while it waits for a guest's agent: it ends when its own stream does."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from harness.agent.build import agent_binary
from harness.arch import Arch


def test_it_does_not_stay_if_the_session_ends_before_the_guests_agent_comes() -> None:
    """sshd gives a command a pair of sockets, or pipes: either way its end hangs up."""
    relay = [str(agent_binary(Arch.X86_64)), "relay", "--domid", "1"]
    ours, theirs = socket.socketpair()
    with subprocess.Popen(relay, stdin=theirs.fileno(), stdout=theirs.fileno()) as with_sockets:
        theirs.close()
        with subprocess.Popen(relay, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as with_pipes:
            try:
                for process in (with_sockets, with_pipes):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
                    assert process.poll() is None, "nobody has hung up yet"
                ours.close()
                assert with_pipes.stdin is not None
                with_pipes.stdin.close()
                assert with_sockets.wait(10) == with_pipes.wait(10) == 0
            finally:
                with_sockets.kill()
                with_pipes.kill()
