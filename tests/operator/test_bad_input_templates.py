"""Chat templates of strangers: whatever they compute, they end soon, small, and with a reason."""

from __future__ import annotations

import asyncio

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aos.errors import ModelUnsuitable
from aos.operator.bounded import SOURCE_BYTES, Bounded, TooMuch
from aos.operator.chat import ChatTemplate
from aos.operator.engine import Engine
from aos.operator.llama import load
from aos.v1.types_pb2 import Chat, ChatMessage
from tests.operator.orders import answer, asking, chatting
from tests.operator.weights import write_model

STEPS = 20_000
GROW = "{% set n = namespace(s='x') %}{% for i in range(64) %}{% set n.s = GROWN %}{% endfor %}{{ n.s|length }}"
NEST = "{% set n = namespace(s=['x']) %}{% for i in range(64) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ SHOWN }}"
LONG = "{% set s = 'a' * 100000 %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
EVIL = [
    ENDLESS,
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set c = cycler('a') %}{% for a in range(9999) %}{% for b in range(9999) %}{{ c.next() }}{% endfor %}{% endfor %}",
    "{% for a in range(9999)|map('string')|select %}{% for b in range(9999)|map('string')|list %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10000000000 }}",
    "{{ 10000000000 * 'a' }}",
    "{{ ([1] * 10000000000)|length }}",
    "{{ 2 ** (2 ** 40) }}",
    *(
        GROW.replace("GROWN", grown)
        for grown in (
            "n.s ~ n.s",
            "n.s + n.s",
            "n.s * 2",
            "'%s%s' % (n.s, n.s)",
            "'%s%s'|format(n.s, n.s)",
            "'{0}{0}'.format(n.s)",
            "[n.s, n.s]|join",
            "''.join([n.s, n.s])",
            "n.s|replace('x', 'xx')",
            "n.s.replace('x', 'xx')",
        )
    ),
    "{% set s = 'xx' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 64 + "{{ s|length }}",
    *(NEST.replace("SHOWN", shown) for shown in ("n.s", "n.s|tojson", "n.s|string|length", "'%s' % (n.s,)", "n.s ~ ''")),
    f"{LONG}{{{{ s.replace('a', s)|length }}}}",
    f"{LONG}{{{{ s|replace('', s)|length }}}}",
    "{{ 'x'|center(10000000000) }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '%*d' % (10000000000, 1) }}",
    "{{ '{:10000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10000000000) }}",
    "{{ ('a\n' * 100000)|indent(100000) }}",
    "{{ [1, [2]]|tojson(indent=1000000000) }}",
    "{{ range(99999)|map('string')|map('list')|sum(start=[])|length }}",
    "{{ lipsum(n=1000000)|length }}" * 2,
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 50_000 + "]" * 50_000 + " }}",
    "x" * (SOURCE_BYTES + 1),
]
GOOD = """{% for m in messages if m.role != 'x' %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}
{{ m.role.upper() ~ ': ' ~ m.content|trim }}{% else %}nobody{% endfor %}{% set ns = namespace(n=1) %}
{% for k, v in {'a': 1}.items() %}{% set ns.n = ns.n + v %}{% endfor %}{{ ns.n }}{{ [1, 2]|join(', ') }}
{{ 'a-b'.split('-')[1] }}{{ '%s!' % 'a' }}{{ '{} {}'.format(1, 'b') }}{{ messages[::-1]|length }}{{ none }}{{ 7 % 4 }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ 'abc'.replace('b', 'x') }}{{ missing }}
{% if 'b' in 'abc' %}y{% endif %}"""


class TestBounded:
    @pytest.mark.parametrize("source", EVIL, ids=range(len(EVIL)))
    def test_ends(self, source):
        """What loops, nests or grows without end is refused, by Jinja's own kind of error, before it takes time or memory."""
        environment = Bounded()
        with pytest.raises(Exception) as caught, environment.budget(STEPS):  # noqa: PT011  # its class is what is looked at
            environment.from_string(source).render()
        assert "TemplateError" in [cls.__name__ for cls in type(caught.value).__mro__]

    def test_changes_nothing_else(self):
        """What ends by itself gives what it gives in Jinja's own sandbox."""
        messages = [{"role": "user", "content": " What? "}, {"role": "assistant", "content": "That."}, {"role": "x", "content": ""}]
        environment = Bounded()
        with environment.budget(STEPS):
            text = environment.from_string(GOOD).render(messages=messages)

        assert text == ImmutableSandboxedEnvironment().from_string(GOOD).render(messages=messages)

    def test_budgets_are_each_their_own(self):
        """One rendering takes nothing from the next."""
        environment = Bounded()
        template = environment.from_string("{% for a in range(60) %}x{% endfor %}")
        for _ in range(3):
            with environment.budget(100):
                assert template.render() == "x" * 60
        with pytest.raises(TooMuch, match="too many steps"), environment.budget(50):
            template.render()


class TestTemplate:
    def test_long_conversations(self):
        """The budget grows with the conversation: one of the most turns and of much text is rendered."""
        template = ChatTemplate("m", GOOD, bos="", eos="", controls=["<|x|>"])
        turns = [ChatMessage(role="user", content=f"{turn}" * 100) for turn in range(1024)]

        assert len(template.render(Chat(messages=turns))[0][0]) > 1024 * 100

    async def test_an_endless_one_fails_its_request(self, tmp_path):
        """A request that needs the template ends with its reason; one that does not is answered."""
        path = write_model(tmp_path / "endless.gguf", template="{% if messages[0].content == 'go' %}" + ENDLESS + "{% endif %}x")
        model = await asyncio.to_thread(load, path, slots=2)
        try:
            async with Engine("m", model) as engine, asyncio.timeout(60):
                with pytest.raises(ModelUnsuitable, match="chat template that works for these messages"):
                    await answer(engine, chatting("go"))
                assert (await answer(engine, chatting("stay", max_tokens=2))).end.tokens
                assert (await answer(engine, asking(max_tokens=2))).end.tokens
        finally:
            await asyncio.to_thread(model.close)
