"""The reference pages name everything that a dialect can answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.chat import ChatRequest
from gateway.completions import CompletionRequest
from gateway.envoy import replies
from gateway.http import HTTP
from gateway.image_requests import EditRequest
from gateway.jobs import JobFields, Params, Submission
from gateway.model_errors import ROWS

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
ENVOY = set(replies.ROWS) - {408, 500}
"""What Envoy can answer by itself, without what no caller of these paths meets."""


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


class TestFailures:
    @pytest.mark.parametrize(
        ("name", "statuses"),
        [
            ("rest-jobs.md", {*HTTP.values(), 402, 413} - {500} | ENVOY),
            ("rest-models.md", {row.status for row in ROWS.values()} | ENVOY),
        ],
    )
    def test_every_status_is_explained(self, name, statuses):
        """The page's table of failures has every HTTP status that the dialect can answer with."""
        table = page(name).split("## Failures")[1]
        explained = {int(number) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for number in cell.split(", ")}
        assert statuses <= explained

    def test_every_code_of_the_model_interface_is_explained(self):
        """Each pair of `code` and `error.code` stands in one row."""
        pages = page("rest-models.md") + page("rest-images.md")
        rows = [line for line in pages.splitlines() if line.startswith("| ")]
        for row in (*ROWS.values(), *(replies.ROWS[status] for status in ENVOY)):
            wanted = f"`{row.name}`" if row.name else "null"
            assert any(str(row.status) in line and str(row.code) in line and wanted in line for line in rows), row


class TestFields:
    def test_every_field_is_explained(self):
        """A field that is accepted is on the page."""
        jobs, models = page("rest-jobs.md"), page("rest-models.md")
        for name in (
            *(f"job.params.{field}" for field in Params.model_fields),
            *(f"job.{field}" for field in JobFields.model_fields),
        ):
            assert f"`{name}`" in jobs or name == "job.params", name
        for name, field in Submission.model_fields.items():
            assert f"`{field.alias or name}`" in jobs
        for name in {*ChatRequest.model_fields, *CompletionRequest.model_fields}:
            assert f"`{name}" in models, name
        for name in EditRequest.model_fields:
            assert f"`{name}`" in page("rest-images.md"), name
