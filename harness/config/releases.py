# SPDX-License-Identifier: GPL-2.0-or-later
"""The releases of Xen that the distribution has."""

from __future__ import annotations

# Release of Xen -> the release of Debian that has it.
RELEASES = {"4.14": "bullseye", "4.17": "bookworm", "4.20": "trixie"}
DEFAULT_RELEASE = "4.17"
