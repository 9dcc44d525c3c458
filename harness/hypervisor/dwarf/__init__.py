# SPDX-License-Identifier: GPL-2.0-or-later
"""What DWARF says of an address in a built hypervisor: which functions it is in, inlined or not,
who called them, and what their variables are there.

``units`` finds the DIEs of an address, ``inlined`` the chain of functions, ``frames`` walks up a
stack by the call frame information, ``values`` evaluates a variable's location in a frame, and
``types`` says where the members of a structure lie.
"""
