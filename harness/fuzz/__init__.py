# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes of the bare guest, judged by the model: a search for unforeseen faults."""
