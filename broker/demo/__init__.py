"""The demonstration that `make run` shows: simulated devices on three nodes, and a live view."""
