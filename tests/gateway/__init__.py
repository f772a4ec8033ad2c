"""The dialects and Envoy, before a network that is scripted."""
