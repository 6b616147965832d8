"""A deterministic simulation of the settlement: one seed makes one world, and its whole fate.

`world` makes tenants, prices, plans and events; `delivery` puts the events into `memory_redis`, and
lets workers settle them with the real code while it kills them; `naive` computes apart from ours
what must come out, and `checks` compares. docs/simulation.md says how to run it and what it found.
"""
