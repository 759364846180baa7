"""Authentication and authorization behind the Authority port."""
