# SPDX-License-Identifier: GPL-2.0-or-later
"""A violation reduced to a few operations, told as text and drawn as a picture."""
