# SPDX-License-Identifier: GPL-2.0-or-later
"""The results of a run: the crash-safe journal, and the reports that are made from it."""
