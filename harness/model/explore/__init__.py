# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programs of threads in every order that there is.  Knows nothing of locks or channels.

- ``program``, ``formula``: how programs, systems and their properties are written.
- ``search`` visits all states (``state_space``, ``state_set``); ``trace`` tells how it got there.
- ``interleavings`` hands out every order, one by one.
- ``liveness``: can a thread wait for ever?  ``induction``: proofs for any number of threads.
- ``weak_memory``: the same under x86-TSO and Armv8 (``memory_model``, checked by ``litmus``).
- ``promela``: the same system for another checker.
"""
