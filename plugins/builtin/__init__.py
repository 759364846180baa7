"""The rules shipped with GeoMQ: their sources and their built modules."""
