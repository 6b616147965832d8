"""Google's Gemini API (`generateContent`), as upstreams speak it; clients do not speak it here."""
