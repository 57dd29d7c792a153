"""One public entry point for a family of HTTP services."""

__version__ = "0.1.0"
