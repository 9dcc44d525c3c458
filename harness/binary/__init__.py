# SPDX-License-Identifier: GPL-2.0-or-later
"""The binary's verdict: the lock functions of a built Xen, lifted and held against the model."""
