"""The admin API: one file per resource, each with its ROUTES; `catalogue` finds them.

It runs in a process of its own, the console, so that no question of a person waits on the event
loop of a request, and no request on that of a person.
"""
