"""Counting, pricing, capping and recording; the request part knows no HTTP and no vendor."""
