"""The mesh: how nodes find each other and what crosses between them, over Eclipse Zenoh."""
