"""The per-channel lock: its flavours as programs, what is proved and what is refuted.  Pure."""
