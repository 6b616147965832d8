"""Where alerts go: one file per sink, each with the `deliver` of `sending.Sink`."""
