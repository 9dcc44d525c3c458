# SPDX-License-Identifier: GPL-2.0-or-later
"""The test rack: servers that the harness knows only by their BMC, serial line and SSH."""
