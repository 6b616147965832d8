"""Choosing an upstream: pure, synchronous, no clock, no I/O."""
