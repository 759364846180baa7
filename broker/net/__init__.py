"""Where sockets, TLS and the event loop live."""
