"""What providers say that was used of them and what it cost: one file per vendor reads it."""
