"""Run a matrix of hosts, Xens and suites every night, and report what changed."""
