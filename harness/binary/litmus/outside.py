# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a litmus test is outside of the model."""

from __future__ import annotations


class OutsideError(Exception):
    """The test has something that the lifter or the model has not; the message says what."""
