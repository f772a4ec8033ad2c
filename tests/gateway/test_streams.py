"""Native streams on the port: which calls may last."""

from __future__ import annotations

from gateway.descriptors import streaming


class TestStreams:
    def test_what_is_watched_has_no_time_limit(self):
        """Streams of services without a REST form, too, are known to Envoy as such."""
        assert {"/aos.v1.Registry/WatchProjects", "/aos.v1.Registry/WatchCatalog", "/aos.v1.Dispatcher/WatchJob"} <= set(
            streaming()
        )
