"""Brokers that are killed again and again under load, and what their clients find afterwards."""
