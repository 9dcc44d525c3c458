"""The line itself: plan -> hypervisor -> images -> machine -> domains -> agents -> results."""
