"""Two brokers, a link between them, and everything that can go wrong with the three."""
