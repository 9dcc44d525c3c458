# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness`` with hosts that are not booted: ``python -m tests.cli.fake_run run ...``."""

from __future__ import annotations

import os

from harness.cli import main
from harness.run import up
from harness.verdict import LabError
from tests.run.fake_session import Lab

if __name__ == "__main__":
    lab = Lab(boot={name: LabError("no KVM") for name in os.environ.get("BROKEN", "").split()})
    setattr(up, "session", lab.session)  # noqa: B010
    main()
