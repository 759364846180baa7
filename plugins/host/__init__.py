"""The plugin host: frames, the wasm engine, pipelines. It knows no MQTT type."""
