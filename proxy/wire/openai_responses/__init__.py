"""OpenAI responses: spoken by newer clients, and by OpenAI and few other upstreams.

Requests are translated into chat completions and answers back, so that every upstream can serve
these clients; the other way there is relaying only.
"""
