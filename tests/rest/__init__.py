"""REST through a real Envoy to the whole network."""
