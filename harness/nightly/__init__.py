# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a matrix of hosts, Xens and suites every night, and report what changed."""
