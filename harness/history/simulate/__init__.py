"""A simulated Xen that makes histories: legal ones, and with one bug in them."""
