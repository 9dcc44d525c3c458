"""dom0 by SSH, libvirt xen:/// through that SSH, and the domUs' life cycle."""
