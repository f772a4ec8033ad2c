"""The project's own tests use the kit that users use, and both databases."""

pytest_plugins = ["aos.testing.plugin", "tests.databases"]
