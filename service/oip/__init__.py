"""Open Inference Protocol v2 without a transport: its tensors and documents, and the core."""
