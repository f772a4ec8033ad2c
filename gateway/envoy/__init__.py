"""Envoy, the one port: its configuration and its process."""
