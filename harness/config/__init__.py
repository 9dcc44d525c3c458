# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab files to typed values; every error names file, line and field."""
