"""What a node tells about itself: $SYS topics, counters, logs."""
