# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants: single faults that are made in Xen's event channels by rule, to see what the tests
catch.

``c_source`` reads C, ``operators`` knows the rules, ``choose`` picks mutants of a tree, ``schema``
puts many into one Xen.
"""
