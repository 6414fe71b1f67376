"""Parts of the service that need packages of their own."""

from __future__ import annotations


class ExtraMissingError(Exception):
    """A setting asks for something whose packages are not installed; the message says which."""
