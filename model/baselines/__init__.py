"""Networks that task routing is compared with and that routes cannot express: towers."""
