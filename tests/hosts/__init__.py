"""Hosts with addresses of their own on one machine, and links between them that can be cut, slowed and healed."""
