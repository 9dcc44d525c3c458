"""The reference model: lock flavours, the channel state machine, exploration.  Pure."""
