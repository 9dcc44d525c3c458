"""Conformance: every row of the event-channel specification, held against a real Xen."""
