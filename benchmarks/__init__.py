"""Measurements: the engine, the service against other servers, overload, soak and memory."""
