# SPDX-License-Identifier: GPL-2.0-or-later
"""The order between data and the flag that publishes it, from the machine code."""
