# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated Xen that makes histories: legal ones, and with one bug in them."""
