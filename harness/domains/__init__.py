# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0 through SSH, its libvirt (xen:///) through that SSH, and the life cycle of the domUs."""
