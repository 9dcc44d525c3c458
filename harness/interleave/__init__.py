# SPDX-License-Identifier: GPL-2.0-or-later
"""Forced interleavings: under a debugger, a real Xen takes its steps in the orders of the model."""
