# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m harness.cli``."""

from harness.cli import main

main()
