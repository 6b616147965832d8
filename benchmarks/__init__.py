"""Measurements beside a bare relay, in the same run. They print ratios and never fail by time."""
