# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that a history is held against: pure functions on arrays, one element per operation.

Each file uses only those above it:

    scope, ports, axis, states   what operations name, how exact their times are, how both are
                                 written as numbers
    lifetimes                    which close ended which allocation of a port
    piece                        all of that as one value, which every rule is given
    connections                  which lifetime each bind connected to
    timeline, changes            when each port changed its state, within bounds
    answers, notify_vcpu         results against the states that a port can have been in
    linearize, partition         what is still open: does any order explain these answers?
    deliveries, events           events: none lost, none invented
    rules, stream                all rules on one piece; a long history piece by piece
"""
