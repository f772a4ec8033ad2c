"""The project's own tests use the kit that users use."""

pytest_plugins = ["aos.testing.plugin"]
