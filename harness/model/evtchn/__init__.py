"""The event-channel state machine: what Xen may answer, and what it leaves behind.  Pure."""
