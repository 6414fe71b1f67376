"""Open Inference Protocol v2 over gRPC, an extra: the same core as HTTP's, on a port of its own."""
