# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference model.  Pure: no input or output, no clock, no randomness.

- ``evtchn``: what event channels do: every answer that Xen may give, and the state after it.
- ``lock``: the lock of a channel, in each flavour, as programs; what must hold of it.
- ``explore``: runs such programs in every order that there is.

``findings`` puts everything that the model proves and refutes together, ``report`` prints it.
"""
