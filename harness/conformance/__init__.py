"""Conformance: every row of docs/spec/evtchn.md, held against a real Xen."""
