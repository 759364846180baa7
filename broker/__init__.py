"""The MQTT broker of a GeoMQ node: protocol, sessions, engine, transports."""

__version__ = "0.1.0"
