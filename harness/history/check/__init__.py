"""The rules that a history is held against: pure functions on arrays."""
