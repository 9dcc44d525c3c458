# SPDX-License-Identifier: GPL-2.0-or-later
"""Litmus tests as files of herdtools7: read, assembled, lifted, and run under the Armv8 model."""
