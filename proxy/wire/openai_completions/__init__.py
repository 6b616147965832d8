"""OpenAI's legacy completions: a prompt that is a text (or its tokens), and how it goes on."""
