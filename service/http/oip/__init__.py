"""Open Inference Protocol v2 over HTTP: JSON, binary data behind it, statuses."""
