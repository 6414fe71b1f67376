"""Open Inference Protocol v2: its tensors and documents, to and from what the core understands."""
