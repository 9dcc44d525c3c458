# SPDX-License-Identifier: GPL-2.0-or-later
"""xen-evtchn-harness: boot a real Xen, drive its event channels, judge what was seen."""

__version__ = "0.1.0"
