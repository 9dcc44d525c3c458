"""What a run leaves behind: the crash-safe journal, and every report made from it."""
