"""One file per wire format, both directions; the file name is the format's key."""
