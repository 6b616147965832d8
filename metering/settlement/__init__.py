"""The worker's part: rates, books and bills what the request path recorded."""
