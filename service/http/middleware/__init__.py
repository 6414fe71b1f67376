"""Pure ASGI middleware, one concept a file.

Never ``BaseHTTPMiddleware``: it hides the client's disconnect from everything inside it.
"""
