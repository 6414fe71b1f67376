"""A refresh: train from the latest version, compare with it, publish only what a gate lets pass."""
