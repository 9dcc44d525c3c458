"""The loop that runs a matrix of hosts, Xens and suites every night, and what it finds."""
