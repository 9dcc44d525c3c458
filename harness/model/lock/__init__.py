# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock of an event channel: its four flavours as programs, and what must hold of them.

- ``flavours``: which call site waits for the lock, which only tries.
- ``counter``, ``rwlock``, ``spinlock``: the locks themselves, beside the C that they model.
- ``call_sites``, ``scenarios``, ``critical_sections``: the situations that are explored.
- ``check``: one flavour, all scenarios.  ``mutants``, ``predictions``, ``lock_order``: the rest.
"""
