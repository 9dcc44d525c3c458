"""Forced interleavings: under a debugger, a real Xen takes its steps in the orders of the model."""
