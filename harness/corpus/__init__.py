"""Flavours that must pass and flavours that must fail: what the tests are worth."""
