"""HTTP: routes, schemas, errors and ASGI middleware around the core."""
