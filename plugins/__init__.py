"""Operators' rules in WebAssembly, and the local history."""
