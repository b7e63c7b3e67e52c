"""What a user asks for: search, evaluate, bench."""
