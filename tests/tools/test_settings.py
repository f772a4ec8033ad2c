"""docs/reference/settings.md, which is made from the settings themselves."""

from __future__ import annotations

from tools.settings import PAGE, page


class TestPage:
    def test_it_says_what_the_settings_say(self):
        """A setting that is added, changed or taken out is so on the page, too: run `python -m tools.settings`."""
        assert PAGE.read_text() == page()
