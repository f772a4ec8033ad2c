"""What the demo model is taught, and what is kept from it."""

import itertools
import random

import pytest

from tools.demo_model.chat import CHAT_TEMPLATE, pieces, prompt
from tools.demo_model.conversations import Conversation, Practice, slip, typo
from tools.demo_model.corpus import DOMAIN, OUTSIDE, SMALL_TALK, CorpusError, parse_topic, read_corpus
from tools.demo_model.paraphrase import expand, plain


@pytest.fixture(scope="module")
def questions():
    return expand(read_corpus())


def trained(questions):
    return [question for question in questions if not question.held_out]


class TestCorpus:
    def test_it_is_broad(self, questions):
        """Hundreds of things to say, each asked in many ways, and a good share of subjects to decline."""
        entries = {kind: [entry for entry in read_corpus() if entry.kind == kind] for kind in (DOMAIN, OUTSIDE, SMALL_TALK)}

        assert len(entries[DOMAIN]) >= 300
        assert len(entries[OUTSIDE]) >= 20
        assert len(entries[SMALL_TALK]) >= 10
        assert len(questions) >= 50_000

    def test_expanding_it_twice_gives_the_same_questions(self, questions):
        """The recipe can be repeated: nothing about the corpus depends on chance or on the order of folders."""
        again = expand(read_corpus())

        assert [(question.text, question.held_out) for question in again] == [
            (question.text, question.held_out) for question in questions
        ]

    def test_no_question_is_asked_twice(self, questions):
        """Two wordings that differ only in case or punctuation count as one, so none can have two answers."""
        assert len({plain(question.text) for question in questions}) == len(questions)

    def test_what_is_held_out_is_never_trained(self, questions):
        """Held-out questions share no wording with training, and outside the domain no subject either."""
        seen = {plain(question.text) for question in trained(questions)}
        held = [question for question in questions if question.held_out]

        assert len(held) >= 2_000
        assert not [question.text for question in held if plain(question.text) in seen]

    def test_every_answer_can_be_learned(self, questions):
        """No entry loses all of its questions to the hold-out or to an entry before it."""
        assert {(entry.topic, entry.line) for entry in read_corpus()} == {
            (question.entry.topic, question.entry.line) for question in trained(questions)
        }

    def test_answers_are_short(self):
        """One to four sentences, so that an answer ends well before the context does."""
        too_long = [answer for entry in read_corpus() for answer in entry.answers if not 1 <= len(answer.split()) <= 75]

        assert not too_long

    def test_text_beyond_ascii_occurs(self):
        """Accents, dashes, emoji and Chinese characters are learned, so multi-byte tokens really come out."""
        said = "".join(answer for entry in read_corpus() for answer in entry.answers)

        assert all(character in said for character in "éï\N{EN DASH}👋智")


class TestTopicFiles:
    def test_an_entry_reads_as_written(self):
        """Alternatives, continued lines, wordings and slots come out as the format says."""
        (entry,) = parse_topic("domain_x", "what: a cat |\n  a dog\nslot n: 1 | 2\nask: Is {n} one?\nsay: Yes. || No.\nweight: 2")

        assert entry.asked == (("what", ("a cat", "a dog")), ("ask", ("Is {n} one?",)))
        assert (entry.answers, entry.slots, entry.weight, entry.kind) == (("Yes.", "No."), {"n": ("1", "2")}, 2.0, DOMAIN)

    @pytest.mark.parametrize(
        "text",
        [
            "what: a cat",
            "say: Meow.",
            "what: a cat\nsays: Meow.",
            "what a cat\nsay: Meow.",
            "vs: a | b | c\nsay: No.",
            "  lost: line",
        ],
        ids=["no answer", "no question", "unknown key", "no colon", "too many parts", "continues nothing"],
    )
    def test_a_slip_of_the_pen_is_refused_with_its_place(self, text):
        """What no entry can mean is an error that names file and line, never a silent default."""
        with pytest.raises(CorpusError, match=r"animals:\d"):
            parse_topic("animals", text)


class TestConversations:
    def test_a_seed_fixes_them(self, questions):
        """The same seed draws the same conversations, and another seed draws others."""
        practice = Practice(trained(questions))

        def drawn(seed):
            rng = random.Random(seed)
            return [practice.draw(rng) for _ in range(50)]

        assert drawn(1) == drawn(1)
        assert drawn(1) != drawn(2)

    def test_speakers_take_turns(self, questions):
        """A system message comes first or not at all; then user and assistant alternate, the assistant last."""
        practice, rng = Practice(trained(questions)), random.Random(3)
        for _ in range(200):
            roles = [role for role, _ in practice.draw(rng).messages]
            spoken = roles[1:] if roles[0] == "system" else roles

            assert spoken == ["user", "assistant"] * (len(spoken) // 2)

    def test_slips_keep_the_question(self):
        """A typing error changes one word by a letter or two, and a slip never empties a question."""
        rng = random.Random(5)
        for _ in range(200):
            changed = typo("Explain machine learning", rng).split()

            assert sum(ours != theirs for ours, theirs in zip(changed, ["Explain", "machine", "learning"], strict=True)) <= 1
            assert slip("What is AI?", rng)

    def test_markup_equals_the_template(self):
        """What training saw is what the chat template in the file writes, up to the place where the answer begins."""
        jinja2 = pytest.importorskip("jinja2")
        messages = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "What is AI?")]
        conversation = Conversation((*messages, ("assistant", "A field.")))

        ours = prompt(messages)
        theirs = jinja2.Template(CHAT_TEMPLATE, keep_trailing_newline=True, autoescape=False).render(
            messages=[{"role": role, "content": content} for role, content in messages], add_generation_prompt=True
        )
        taught = "".join(text for text, _ in itertools.takewhile(lambda piece: "A field." not in piece[0], pieces(conversation)))

        assert ours == theirs == taught
