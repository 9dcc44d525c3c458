"""A run: plan -> hypervisor -> images -> machine -> domains -> agents -> results."""
