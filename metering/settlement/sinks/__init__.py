"""Where alerts go: one file per type of sink, found by its name.

Each has `open_sink(settings, log)`, which gives something with the `deliver` of `sending.Sink`.
"""
