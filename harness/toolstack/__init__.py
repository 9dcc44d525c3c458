# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0's toolstack of a Xen tree: xenstored, xenconsoled, libxl and libvirt's driver for it."""
