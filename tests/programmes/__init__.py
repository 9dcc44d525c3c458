# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of harness/fuzz.  (tests/fuzz attacks the readers of files instead.)"""
