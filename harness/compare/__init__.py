"""Compare two hypervisors: run both with the same seeds, in turn, and give one verdict."""
