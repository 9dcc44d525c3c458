# SPDX-License-Identifier: GPL-2.0-or-later
"""Conformance: every row of docs/spec/evtchn.md, held against a real Xen."""
