# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the commit that introduced a failure, although tests are flaky and some commits do not
build."""
