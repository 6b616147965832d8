"""Bedrock's Converse and ConverseStream: one shape for every model that AWS serves."""
