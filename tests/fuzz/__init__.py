# SPDX-License-Identifier: GPL-2.0-or-later
"""All readers of what comes from outside, attacked: ``pytest tests/fuzz --mutations 2000``."""
