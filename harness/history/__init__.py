# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories: what every agent thread did, judged by the model, and explained where it forbids it.

- ``format``: the record of one operation, a whole history, and the Parquet file it is kept in;
- ``check``: the rules, and the search for an order (linearization) that explains all answers;
- ``explain``: a violation reduced to a few operations, as text and as a picture;
- ``checker``: the way in: ``check(history)`` uses all three;
- ``simulate``: histories with a known verdict, by a simulated Xen that shares no code with
  ``check``.
"""
