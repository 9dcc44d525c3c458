# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare two hypervisors: run both with the same seeds, in turn, and give one verdict."""
