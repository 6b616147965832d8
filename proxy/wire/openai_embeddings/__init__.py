"""OpenAI's embeddings: texts or tokens in, vectors out; no output that would be counted."""
