# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels as a state machine: what Xen may answer, and what it leaves behind.

- ``domain``: the state.  ``operations``: what can be done to it, as values.
- ``predict``: every outcome that is allowed; its rules are in ``alloc_bind``, ``close_reset``,
  ``port_ops``, ``fifo`` and ``xen_internal``, on top of ``delivery`` and ``outcome``.
- ``changed_rules``: every rule that changed between releases of Xen, by commit.  ``rules``: which
  of them hold in one Xen.  ``releases``: the numbers.
- ``spec_rows``: the names of the rules, as in docs/spec/evtchn.md.
- ``invariants``: what must hold whatever happens.  ``abi``: numbers of Xen's public headers.
"""
