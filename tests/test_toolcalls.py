"""Calls in an answer's text: found in every way that models write them, and never in other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.toolcalls import HEAD_CHARS, CallParser, Fragment, add_calls, call_id, whole
from aos.v1.dispatcher_pb2 import Outcome
from aos.v1.types_pb2 import Chat, Order, Tool, ToolChoice

NAMES = ("get", "get_time", "type")
JOB = "jobs/" + "ab" * 32
# what calls are made of, so that what is drawn comes close to them
PIECES = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "<tool", "[TO", " ", "\n", "text", '"', "\\"),
        *('{"name": "get", "arguments": ', '{"a": 1}', '{"a": "}\\""}', "}", "{", "[", "]", ",", ";", "get_time", "get", "{}"),
        *('{"type": "function", "name": "get_time", "parameters": {}}', '{"name": "other", "arguments": {}}', "é"),
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def read(*pieces: str) -> tuple[str, list[tuple[str, str]]]:
    """What is certain after all pieces, put together."""
    parser, content, calls = CallParser(NAMES), "", []
    for part in [part for piece in pieces for part in parser.feed(piece)] + parser.finish():
        if isinstance(part, Fragment):
            if part.name:
                assert (part.index, part.arguments) == (len(calls), "")
                calls.append((part.name, ""))
            else:
                name, so_far = calls[part.index]
                calls[part.index] = (name, so_far + part.arguments)
        else:
            assert part
            content += part
    assert parser.calls == len(calls)
    return content, calls


def order(choice: ToolChoice) -> Order:
    return Order(chat=Chat(tools=[Tool(name="get")], tool_choice=choice))


class TestFormats:
    @pytest.mark.parametrize(
        ("text", "content", "calls"),
        [
            ('<tool_call>{"name": "get", "arguments": {"a": 1}}</tool_call>', "", [("get", '{"a": 1}')]),
            (
                'Wait.\n<tool_call>\n{"name":"get","arguments":{}}\n</tool_call>\n<tool_call>{"name":"get_time","arguments":{"b":[{}]}}',
                "Wait.",
                [("get", "{}"), ("get_time", '{"b":[{}]}')],
            ),
            ('<|python_tag|>{"name": "get", "parameters": {"a": "}"}}', "", [("get", '{"a": "}"}')]),
            ('{"name": "get", "parameters": {}}; {"name": "type", "parameters": {}}', "", [("get", "{}"), ("type", "{}")]),
            ('\n{"type": "function", "name": "get", "parameters": {}}', "", [("get", "{}")]),
            ('[TOOL_CALLS][{"name":"get","arguments":{}}, {"name": "type", "arguments": {}}]', "", [("get", "{}"), ("type", "{}")]),
            ('Yes [TOOL_CALLS]get_time[ARGS]{"z": "\\""}[TOOL_CALLS]get{}', "Yes", [("get_time", '{"z": "\\""}'), ("get", "{}")]),
        ],
    )
    def test_calls(self, text, content, calls):
        """Hermes's, Llama's and Mistral's way, one call or several, with content before them."""
        assert whole(text, NAMES) == (content, calls)

    @pytest.mark.parametrize(
        "text",
        [
            *("", " \n", "Nothing to call.", "a <b> [c] {d}", "<tool_call>", "ends in <tool_c", '{"a": 1}', " {}", "[TOOL_CALLS]["),
            '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
            '<tool_call>{"name": "get", "arguments": 1}</tool_call>',
            '<tool_call>{"arguments": {}, "name": "get"}</tool_call>',
            'It is {"name": "get", "parameters": {}}',
            '<tool_call>{"name": ' + " " * HEAD_CHARS + '"get", "arguments": {}}</tool_call>',
        ],
    )
    def test_what_is_no_call_is_content(self, text):
        """Unknown tools, broken calls, JSON in the middle of the text: every character of it comes."""
        assert whole(text, NAMES) == (text, [])

    def test_a_call_that_was_cut_off(self):
        """It has the arguments that came."""
        assert whole('<tool_call>{"name": "get", "arguments": {"city": "Par', NAMES) == ("", [("get", '{"city": "Par')])

    @pytest.mark.parametrize("cut", ["", "\n", "\n<", "\n</tool_call"])
    def test_a_call_whose_end_was_cut_off(self, cut):
        """Of the mark that ends a call, what there is belongs to the call: it is no content."""
        assert whole('<tool_call>{"name": "get", "arguments": {"a": 1}}' + cut, NAMES) == ("", [("get", '{"a": 1}')])

    def test_arguments_come_as_they_are_made(self):
        """The name as soon as the arguments begin, then each piece of them."""
        parser = CallParser(NAMES)

        assert parser.feed('Go. <tool_call>{"name": "get", "arg') == ["Go."]
        assert parser.feed('uments": {"a"') == [Fragment(0, "get", ""), Fragment(0, "", '{"a"')]
        assert parser.feed(": 1") == [Fragment(0, "", ": 1")]
        assert parser.feed("}}</tool_call>") == [Fragment(0, "", "}")]
        assert parser.finish() == []


class TestAnyCut:
    @given(TEXTS, st.data())
    def test_pieces_give_what_the_whole_gives(self, text, data):
        """However the text is cut, content, names and arguments are the same."""
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

        assert read(*pieces) == read(*text) == whole(text, NAMES)

    @given(TEXTS)
    def test_no_text_is_lost(self, text):
        """All of it without calls; with calls, content and arguments stand in it in their order."""
        content, calls = whole(text, NAMES)

        if not calls:
            assert content == text
        rest = iter(text)
        assert all(char in rest for char in content)
        assert all(arguments in text for _, arguments in calls)


class TestOutcome:
    TEXT = 'Sure. <tool_call>{"name": "get", "arguments": {}}</tool_call>'

    def test_it_has_the_calls(self):
        """With the content beside them, and ids that follow from the job; the text stays whole."""
        outcome = Outcome(text=self.TEXT)
        add_calls(outcome, order(ToolChoice.TOOL_CHOICE_AUTO), JOB)

        assert (outcome.text, outcome.content) == (self.TEXT, "Sure.")
        assert [(call.id, call.name, call.arguments) for call in outcome.tool_calls] == [(call_id(JOB, 0), "get", "{}")]
        assert call_id(JOB, 0) != call_id(JOB, 1)

    @pytest.mark.parametrize("asked", [Order(prompt="x"), order(ToolChoice.TOOL_CHOICE_NONE)])
    def test_without_tools_text_is_text(self, asked):
        """Nobody asked for calls, so there are none."""
        outcome = Outcome(text=self.TEXT)
        add_calls(outcome, asked, JOB)

        assert outcome == Outcome(text=self.TEXT)
