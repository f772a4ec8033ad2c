"""The committed controllers: the small ones at work, the tutorial's, and that all of them are of the sources beside them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import wasmtime

from aos.wasm_modules import check_module
from tests.controllers.driving import BEGIN, FOLDER, tokenise, untokenised

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "controllers.md"
REFERENCE = ROOT / "docs" / "reference" / "controller-programs.md"
PROGRAMS = ROOT / "tests" / "controllers" / "programs"
SUMS = ROOT / "controllers" / "SHA256SUMS"
NAMES = ["declctrl", "jsctrl", "uppercase", "yesno"]
MOST_BYTES = 2 << 20


def block(language: str, page: Path = PAGE) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return found


def exactly(language: str) -> bytes:
    return bytes(wasmtime.wat2wasm(block("wat"))) if language == "wat" else (PROGRAMS / f"exactly-{language}.wasm").read_bytes()


class TestUppercase:
    async def test_every_fourth_byte_is_an_upper_case_letter(self, stage):
        """The first three bytes are none; after more than 50 tokens it stops."""
        ran = await stage.run("uppercase", prompt="foo bar", says="abcDefgH")

        written = untokenised(ran.ways[0].tokens)
        assert written.startswith(b"abcDefgH")
        assert all((65 <= byte <= 90) == (at % 4 == 3) for at, byte in enumerate(written))
        assert len(ran.ways[0].tokens) == 51

    async def test_a_prompt_is_made_up_where_there_is_none(self, stage):
        """What there is of a prompt stays before it."""
        ran = await stage.run("uppercase")

        assert ran.prompt == [BEGIN, *tokenise(b"Here's a tweet:\n")]

    async def test_a_prompt_that_is_given_stays(self, stage):
        """It is answered as it was told."""
        assert (await stage.run("uppercase", prompt="foobar")).prompt == [BEGIN, *tokenise(b"foobar")]


class TestYesno:
    @pytest.mark.parametrize("says", ["Yes", "No"])
    async def test_one_of_two_tokens_is_drawn(self, stage, says):
        """Then the answer ends."""
        ran = await stage.run("yesno", prompt="foo", says=says)

        assert (ran.text, ran.masks, len(ran.micros)) == (says, [2], 2)
        assert ran.prompt == [BEGIN, *tokenise(b"foo")]


class TestTutorial:
    @pytest.mark.parametrize("language", ["wat", "c", "ts"])
    async def test_each_example_writes_exactly_as_many_tokens_as_it_is_told(self, stage, language):
        """None fewer, though the model would end; none more."""
        ran = await stage.run(exactly(language), "12", prompt="foo", says="ab")

        assert len(ran.ways[0].tokens) == 12
        assert len(set(ran.masks)) == 1
        assert ran.ways[0].ended == "stop"
        assert ran.prompt == [BEGIN, *tokenise(b"foo")]

    @pytest.mark.parametrize("language", ["c", "ts"])
    def test_what_was_compiled_is_what_the_page_shows(self, language):
        """``make controllers`` compiles the page's own code."""
        assert (PROGRAMS / f"exactly.{language}").read_text() == block(language)


class TestReference:
    async def test_the_program_in_javascript_runs_as_it_stands(self, stage):
        """It writes its text, two digits, and the variable."""
        ran = await stage.run("jsctrl", block("js", REFERENCE), says="42")

        assert ran.text == "Ultimate answer is to the life, universe and everything is 42"
        assert ran.variables == {"answer": b"42"}

    async def test_the_steps_run_as_they_stand(self, stage):
        """Text, a pattern, a variable, and text of it."""
        ran = await stage.run("declctrl", block("json", REFERENCE), says=" 'ab'")

        assert ran.text == "The word 'hello' in French is translated as 'ab'\nResult: 'ab'"

    def test_every_name_of_the_library_is_told(self):
        """What the module "aici" gives to programs stands on the page."""
        source = (ROOT / "controllers" / "jsctrl" / "lib" / "aici.js").read_text()
        lists = re.findall(r"^export \{(.*?)\}", source, re.DOTALL | re.MULTILINE)
        names = {name.strip() for listed in lists for name in listed.split(",") if name.strip()}

        page = REFERENCE.read_text()
        assert len(names) > 40
        assert {name for name in names if not re.search(rf"(?<![\w$.]){re.escape(name)}(?!\w)", page)} == set()


class TestArtifacts:
    def test_they_are_of_the_sources_that_are_here(self):
        """Who changes a source runs ``make controllers``; which notes the digests of what went in and of what came out."""
        listed = dict(reversed(line.split("  ")) for line in SUMS.read_text().splitlines())
        sources = {path for path in (ROOT / "controllers").rglob("*") if path.suffix in {".c", ".h", ".js"}}
        made = {path for folder in (FOLDER, PROGRAMS) for path in folder.iterdir()}

        assert set(listed) == {path.relative_to(ROOT).as_posix() for path in sources | made}
        assert {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in listed} == listed

    @pytest.mark.parametrize("name", NAMES)
    def test_the_runtime_takes_them(self, name):
        """Each is a controller of the newest kind, and small enough to be kept here."""
        path = FOLDER / f"{name}.wasm"

        assert check_module(path).abi == "mid_process"
        assert path.stat().st_size < MOST_BYTES

    def test_the_manifest_names_them(self):
        """A new network tags each of them ``…-latest``."""
        manifest = json.loads((FOLDER / "manifest.json").read_text())

        assert sorted(one["file"] for one in manifest) == [f"{name}.wasm" for name in NAMES]
        assert all(one["tags"][0] == one["file"].replace(".wasm", "-latest") for one in manifest)

    def test_the_licences_of_what_is_linked_in_are_beside_them(self):
        """The engine's authors, and those of the C library."""
        licences = (FOLDER / "LICENSES").read_text()

        assert "Fabrice Bellard" in licences
        assert "QuickJS-NG" in licences
        assert "musl" in licences
