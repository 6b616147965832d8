"""The door: HTTP on both sides, wire formats, vendors, and the process itself."""
