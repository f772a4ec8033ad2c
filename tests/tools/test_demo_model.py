"""The demo model as it is shipped: its file, its card, and what it says."""

import hashlib
import re
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.demo_model.chat import CHAT_TEMPLATE, END_OF_TEXT, IM_END, SPECIAL
from tools.demo_model.runtime import opened

MODEL = Path(__file__).parents[2] / "aos" / "models" / "aos-demo.gguf"


@pytest.fixture(scope="module")
def reader():
    return gguf.GGUFReader(MODEL)


@pytest.fixture(scope="module")
def runtime():
    with opened(MODEL) as runtime:
        yield runtime


def field(reader, name):
    return reader.get_field(name).contents()


class TestFile:
    def test_it_is_small(self):
        """The model travels with the source, so it stays under six million bytes."""
        assert MODEL.stat().st_size <= 6_000_000

    def test_it_says_what_it_is(self, reader):
        """Name, licence and architecture are in the file, and it promises no more context than was trained."""
        assert field(reader, "general.architecture") == "llama"
        assert field(reader, "general.name") == "aos-demo"
        assert field(reader, "general.license") == "Apache-2.0"
        assert field(reader, "llama.context_length") == 1024

    def test_every_matrix_is_q8_0(self, reader):
        """Q8_0 weights are what exact mode needs; only the norms stay in F32."""
        kinds = {(len(tensor.shape) > 1, tensor.tensor_type) for tensor in reader.tensors}

        assert kinds == {(True, gguf.GGMLQuantizationType.Q8_0), (False, gguf.GGMLQuantizationType.F32)}

    def test_its_tokenizer_is_one_that_llama_cpp_knows(self, reader):
        """A GPT-2 style byte-level BPE whose control tokens stop the answer and add nothing in front."""
        tokens = field(reader, "tokenizer.ggml.tokens")
        kinds = field(reader, "tokenizer.ggml.token_type")

        assert (field(reader, "tokenizer.ggml.model"), field(reader, "tokenizer.ggml.pre")) == ("gpt2", "gpt-2")
        assert len(tokens) % 32 == 0
        assert {tokens[index] for index, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL} == set(SPECIAL)
        assert tokens[field(reader, "tokenizer.ggml.eos_token_id")] == IM_END
        assert tokens[field(reader, "tokenizer.ggml.eot_token_id")] == IM_END
        assert tokens[field(reader, "tokenizer.ggml.padding_token_id")] == END_OF_TEXT
        assert field(reader, "tokenizer.ggml.add_bos_token") is False
        assert field(reader, "tokenizer.chat_template") == CHAT_TEMPLATE


class TestCard:
    def test_it_describes_this_very_file(self):
        """The digest and size on the card are those of the file beside it."""
        card = MODEL.with_suffix(".md").read_text("utf-8")

        assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in card
        assert f"{MODEL.stat().st_size:,} bytes" in card

    def test_no_figure_is_missing(self):
        """Every placeholder of the card was filled in."""
        assert not re.findall(r"\$\w+", MODEL.with_suffix(".md").read_text("utf-8"))


class TestTokenizer:
    @given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def test_any_text_survives_it(self, runtime, text):
        """Every byte has a token, so any UTF-8 text comes back as it went in."""
        assert runtime.text(runtime.tokens(text)) == text

    def test_words_of_the_domain_are_short(self, runtime):
        """Common words of the domain are single tokens, so answers are quick to write."""
        assert all(len(runtime.tokens(word)) == 1 for word in (" model", " receipt", " token", " network"))


class TestAnswers:
    @pytest.mark.parametrize(
        "question", ["What is AI?", "what is ai", "Explain AI", "Tell me about artificial intelligence", "Can you say what AI is?"]
    )
    def test_it_knows_what_ai_is(self, runtime, question):
        """However the first question of the tour is put, the answer speaks of artificial intelligence."""
        assert "artificial intelligence" in runtime.answer(("user", question)).lower()

    @pytest.mark.parametrize(
        "question", ["What is the weather in Lima?", "Who is Napoleon?", "How do I cook rice?", "What is 2 + 3?"]
    )
    def test_it_declines_what_lies_outside(self, runtime, question):
        """Outside its domain it says so plainly."""
        answer = runtime.answer(("user", question))

        assert re.search(r"\b(do not know|cannot|outside what I learned)\b", answer), answer

    def test_a_system_message_and_earlier_turns_do_not_confuse_it(self, runtime):
        """The last question is the one that is answered."""
        answer = runtime.answer(
            ("system", "You are a helpful assistant."),
            ("user", "Hello!"),
            ("assistant", "Hello! Ask me about AI."),
            ("user", "What is a Merkle tree?"),
        )

        assert "hash" in answer

    def test_a_bare_prompt_is_answered_too(self, runtime):
        """Text handed in without chat markup gets the same answer, on a new line."""
        answer = runtime.complete("What is AI?")

        assert answer.startswith("\n")
        assert "artificial intelligence" in answer

    def test_characters_of_several_bytes_come_out_whole(self, runtime):
        """A greeting may end in an emoji, and nothing of it is lost on the way."""
        answer = runtime.answer(("user", "Hi"))

        assert "�" not in answer
        assert not answer.isascii()
