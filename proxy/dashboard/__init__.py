"""The dashboard: pages for people, static files without a build step, and what is live on them."""
