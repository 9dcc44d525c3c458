# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of one operation, a whole history, and the Parquet file it is kept in."""
