"""dom0's toolstack of a Xen tree: xenstored, xenconsoled, libxl and libvirt's driver for it."""
