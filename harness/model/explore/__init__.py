"""Programs of threads and every way they can run: state spaces, memory models, traces.  Pure."""
