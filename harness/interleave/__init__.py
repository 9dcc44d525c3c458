"""Forced interleavings: the model hands out schedules, a real Xen walks them under a debugger."""
