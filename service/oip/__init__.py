"""Open Inference Protocol v2 without a transport: its documents and tensors, to and from the core."""
