# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the tests on flavours that must pass and on flavours that must fail: what do they catch?"""
