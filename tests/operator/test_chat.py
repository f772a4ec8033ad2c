"""Chat templates: what they are given, what they may do, and how their control tokens stay their own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from aos.errors import InvalidField, ModelUnsuitable
from aos.operator.chat import ChatTemplate
from aos.v1.types_pb2 import Chat, ChatMessage

CONTROLS = ["<s>", "<s><s>", "<e>", "ae"]
# the letters of the control tokens and of the marks, so that messages come close
CONTENT = st.text("<se>a0\ue000\ue001\ue002", max_size=20)


def template(source: str) -> ChatTemplate:
    return ChatTemplate("m", source, bos="<s>", eos="<e>", controls=CONTROLS)


def user(*contents: str) -> Chat:
    return Chat(messages=[ChatMessage(role="user", content=content) for content in contents])


class TestRender:
    def test_plain(self):
        """Messages, the tokens' texts and the generation prompt are there, in one part."""
        source = "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"
        source += "{% if add_generation_prompt %}go{% endif %}"

        assert template(source).render(user("x", "y")) == [("<s>user:x<e>user:y<e>go", True)]

    def test_blocks_leave_no_lines(self):
        """Blocks on lines of their own leave no lines and no indentation, as templates' authors expect."""
        source = "{% for m in messages %}\n    {% if m.content %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\nend"

        assert template(source).render(user("x")) == [("x\nend", True)]

    def test_trimming(self):
        """A template that trims messages trims them, control texts or not."""
        parts = template("[{{ messages[0].content | trim }}]").render(user("  <s>x  "))

        assert parts == [("[", True), ("<s>", False), ("x]", True)]

    @settings(deadline=None)
    @given(st.lists(CONTENT, min_size=1, max_size=3))
    def test_no_message_makes_a_control_token(self, contents):
        """Whatever messages say, the parts that count have only the template's own control texts, and no text is lost."""
        parts = template("{% for m in messages %}|{{ m.content }}|{% endfor %}").render(user(*contents))

        assert "".join(text for text, _ in parts) == "".join(f"|{content}|" for content in contents)
        assert not [text for text, counts in parts if counts and any(control in text for control in CONTROLS)]

    def test_refused(self):
        """What the template refuses is the caller's to mend, and says why."""
        with pytest.raises(InvalidField, match="roles must alternate"):
            template("{{ raise_exception('roles must alternate') }}").render(user("x"))

    @pytest.mark.parametrize(
        "source",
        ["{{ messages[7].content.x }}", "{{ 1 / 0 }}", "{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ 1 + '' }}"],
    )
    def test_failing(self, source):
        """A template that fails, or reaches for what is none of its business, is unsuitable."""
        with pytest.raises(ModelUnsuitable, match="chat template"):
            template(source).render(user("x"))

    def test_no_template_at_all(self):
        """What is no template cannot be made one."""
        with pytest.raises(TemplateError):
            template("{% for")
