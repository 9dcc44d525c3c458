# SPDX-License-Identifier: GPL-2.0-or-later
"""A run: plan -> hypervisor -> images -> machine -> domains -> agents -> results."""
