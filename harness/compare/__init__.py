"""Two hypervisors side by side: the same seeds, interleaved, and one verdict."""
