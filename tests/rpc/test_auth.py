"""Whose a token is."""

from __future__ import annotations

import pytest

from aos.rpc.auth import Caller, FixedTokens, Kind

PROJECTS = {"mine": Caller(Kind.PROJECT, "projects/mine")}
DEMO = Caller(Kind.PROJECT, "projects/demo")


async def projects(token: str) -> Caller | None:
    return PROJECTS.get(token)


class TestFixedTokens:
    @pytest.mark.parametrize(
        ("token", "who"),
        [("admin", Caller(Kind.ADMIN)), ("service", Caller(Kind.SERVICE)), ("mine", PROJECTS["mine"]), ("any", None), ("", None)],
    )
    async def test_whose(self, token, who):
        """The administrator's, the services', a project's, or nobody's; only in development nobody's is the open project's."""
        fixed = {"admin": "admin", "service": "service", "otherwise": projects}
        assert await FixedTokens(**fixed)(token) == who
        assert await FixedTokens(**fixed, open_as="projects/demo")(token) == (who or DEMO)

    async def test_none_given(self):
        """Where settings give no token, an empty one is nobody's."""
        assert await FixedTokens(admin="", service="", otherwise=projects)("") is None
