"""MQTT 3.1.1 and 5 as bytes: pure functions and state machines, standard library only."""
