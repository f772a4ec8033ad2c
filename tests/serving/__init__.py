"""Services alone in their processes: settings, calls, readiness."""
