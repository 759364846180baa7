"""Local history: what a node keeps of its own messages, in SQLite."""
