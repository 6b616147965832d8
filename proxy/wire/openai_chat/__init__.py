"""OpenAI chat completions: how most clients speak, and every upstream that is called compatible."""
