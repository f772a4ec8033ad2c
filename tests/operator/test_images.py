"""The embedded image model as it is shipped: what it draws, what it changes, what it refuses."""

import hashlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.operator.image_scene import meanings
from aos.operator.images import PROMPT_CHARACTERS, STEPS, ImageModel, RenderCancelled
from tools.picture_model.judge import cell_of, look
from tools.picture_model.words import COUNT, LENGTH, MEANINGS, encode, vocabulary

MODEL = Path(__file__).parents[2] / "aos" / "models" / "aos-pictures.onnx"
SIDE = 128


@pytest.fixture(scope="module")
def model():
    return ImageModel.open(MODEL)


def paint(model, prompt, *, seed=1, width=SIDE, height=SIDE, source=None, mask=None, cancelled=lambda: False):
    return model.render(prompt, seed=seed, width=width, height=height, source=source, mask=mask, cancelled=cancelled)


def shown(picture):
    """Background, and shape and colour of everything, sorted."""
    background, seen = look(picture)
    return background, sorted((one.color, one.shape) for one in seen)


def speckled(height=SIDE, width=SIDE):
    """A source like no picture that was trained on."""
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def corner(height=SIDE, width=SIDE):
    """The lower right quarter."""
    mask = np.zeros((height, width), np.bool_)
    mask[height // 2 :, width // 2 :] = True
    return mask


class TestDrawing:
    @pytest.mark.parametrize(
        ("prompt", "background", "things"),
        [
            ("a red circle on a white background", "white", [("red", "circle")]),
            ("Please draw me a big yellow heart on black.", "black", [("yellow", "heart")]),
            ("three green stars on a white background", "white", [("green", "star")] * 3),
            ("a purple triangle and a gray square, pink background", "pink", [("gray", "square"), ("purple", "triangle")]),
            # a pair that was held out of training
            ("a blue circle on a yellow background", "yellow", [("blue", "circle")]),
        ],
    )
    def test_it_shows_what_was_asked_for(self, model, prompt, background, things):
        """Shape, colour, count and background are those of the prompt, judged by the pixels alone."""
        assert shown(paint(model, prompt)) == (background, things)

    @pytest.mark.parametrize(
        ("place", "cell"),
        [("at the top left", (0, 0)), ("on the right", (1, 2)), ("in the lower left corner", (2, 0)), ("at the top", (0, 1))],
    )
    def test_it_puts_things_where_they_belong(self, model, place, cell):
        """A place in the prompt is the place in the picture."""
        _, (star,) = look(paint(model, f"a small blue star {place} on a white background"))

        assert cell_of(star) == cell

    def test_any_size(self, model):
        """The picture has the size that was asked for; a wide one shows a square's worth in its middle, on the same background."""
        picture = paint(model, "a red circle in the center on a white background", width=200, height=80)

        assert (picture.shape, picture.dtype) == ((80, 200, 3), np.uint8)
        assert shown(picture[:, 60:140]) == ("white", [("red", "circle")])
        assert (picture[:, :60] == picture[0, 0]).all()

    def test_no_words_at_all(self, model):
        """An empty prompt leaves everything to the seed."""
        assert paint(model, "").shape == (SIDE, SIDE, 3)


class TestChanging:
    def test_an_instruction_is_followed(self, model):
        """What is named changes, everything else stays."""
        before = paint(model, "a red circle at the top left and a green star at the bottom right on a white background")
        after = paint(model, "make the circle blue", seed=2, source=before)

        assert shown(after) == ("white", [("blue", "circle"), ("green", "star")])
        assert (after[SIDE // 2 :] == before[SIDE // 2 :]).all()

    def test_things_come_and_go(self, model):
        """Things are added, removed and replaced."""
        before = paint(model, "a red circle at the top left and a green star at the bottom right on a white background")

        assert shown(paint(model, "add a blue heart at the bottom left", source=before))[1] == [
            ("blue", "heart"),
            ("green", "star"),
            ("red", "circle"),
        ]
        assert shown(paint(model, "remove the star", source=before))[1] == [("red", "circle")]
        assert shown(paint(model, "replace the star with a black square", source=before))[1] == [
            ("black", "square"),
            ("red", "circle"),
        ]

    def test_the_source_is_left_as_it_was(self, model):
        """The caller's array is not written to."""
        source, copy = speckled(), speckled()
        paint(model, "add a red star", source=source)

        assert (source == copy).all()

    @pytest.mark.parametrize("source", [speckled(), speckled(90, 160), speckled(160, 90)], ids=["square", "wide", "high"])
    def test_nothing_changes_outside_the_mask(self, model, source):
        """Pixels that are not to be painted are bit-equal to the source's; those that are, are painted."""
        height, width, _ = source.shape
        mask = corner(height, width)
        result = paint(model, "a red star", width=width, height=height, source=source, mask=mask)

        assert (result[~mask] == source[~mask]).all()
        assert (result[mask] != source[mask]).mean() > 0.9

    def test_a_hole_is_filled_with_what_was_asked_for(self, model):
        """The thing lies in the hole, on the background of the rest."""
        before = paint(model, "a yellow circle at the top left on a blue background")
        after = paint(model, "a red star", source=before, mask=corner())

        assert shown(after) == ("blue", [("red", "star"), ("yellow", "circle")])
        assert {cell_of(one) for one in look(after)[1] if one.shape == "star"} <= {
            (row, column) for row in (1, 2) for column in (1, 2)
        }

    def test_what_lies_under_the_mask_does_not_matter(self, model):
        """Two sources that differ under the mask alone give the same picture there."""
        one, other = speckled(), speckled()
        other[corner()] = 7

        assert (
            paint(model, "a red star", source=one, mask=corner()) == paint(model, "a red star", source=other, mask=corner())
        ).all()

    def test_masks_at_their_limits(self, model):
        """Nothing to paint gives the source; everything to paint gives a whole picture."""
        source = speckled()
        nothing, everything = np.zeros((SIDE, SIDE), np.bool_), np.ones((SIDE, SIDE), np.bool_)

        assert (paint(model, "a red star", source=source, mask=nothing) == source).all()
        assert (paint(model, "a red star", source=source, mask=everything) != source).mean() > 0.9

    def test_a_source_of_another_size(self, model):
        """Is resized first, its mask along with it."""
        source, mask = speckled(64, 64), corner(64, 64)
        result = paint(model, "a red star", source=source, mask=mask)

        assert result.shape == (SIDE, SIDE, 3)
        assert (result[corner()] != paint(model, "", source=source)[corner()]).any()


class TestDeterminism:
    def test_the_same_arguments_give_the_same_bytes(self, model):
        """Another object of the same file, and calls in any order, change nothing."""
        first = paint(model, "two pink rings", seed=7)
        paint(model, "a black cross", seed=8)

        assert paint(model, "two pink rings", seed=7).tobytes() == first.tobytes()
        assert paint(ImageModel.open(MODEL), "two pink rings", seed=7).tobytes() == first.tobytes()

    def test_threads_share_a_model(self, model):
        """What runs at the same time changes no byte."""
        prompts = ["two pink rings", "a black cross", "four small red hearts", "a green diamond on brown"]
        alone = [paint(model, prompt, seed=7).tobytes() for prompt in prompts]
        start = threading.Barrier(len(prompts))

        def together(prompt):
            start.wait(60)
            return paint(model, prompt, seed=7).tobytes()

        with ThreadPoolExecutor(len(prompts)) as threads:
            assert list(threads.map(together, prompts)) == alone

    def test_the_seed_decides_the_rest(self, model):
        """Seeds give different pictures of the same prompt, from the least to the greatest."""
        pictures = {paint(model, "a star", seed=seed).tobytes() for seed in (0, 1, 2**63, 2**64 - 1)}

        assert len(pictures) == 4

    def test_it_says_what_decides_the_bytes(self, model):
        """Digest of the file, runtime and its version, and the CPU's features."""
        assert model.digest == hashlib.sha256(MODEL.read_bytes()).digest()
        assert re.fullmatch(rf"onnxruntime {re.escape(onnxruntime.__version__)} cpu \S+ \S+", model.profile)


class TestRefusals:
    @pytest.mark.parametrize(
        ("prompt", "limit"), [("red " * (LENGTH + 1), str(LENGTH)), ("x" * (PROMPT_CHARACTERS + 1), str(PROMPT_CHARACTERS))]
    )
    def test_prompts_that_are_too_long(self, model, prompt, limit):
        """The refusal names the field and the limit."""
        with pytest.raises(InvalidField) as refused:
            paint(model, prompt)

        assert (refused.value.facts["field"], refused.value.facts["limit"]) == ("prompt", limit)

    @pytest.mark.parametrize("words", ["please " * 500, "🙂" * LENGTH, "\x00\n\ufffd"])
    def test_strange_prompts_are_drawn(self, model, words):
        """Words of no weight do not count, unknown ones are passed over."""
        assert paint(model, words).shape == (SIDE, SIDE, 3)

    @pytest.mark.parametrize(
        ("field", "arguments"),
        [
            ("width", {"width": 15}),
            ("height", {"height": 2049}),
            ("seed", {"seed": -1}),
            ("seed", {"seed": 2**64}),
            ("image", {"source": np.zeros((8, 8, 4), np.uint8)}),
            ("image", {"source": np.zeros((8, 8, 3), np.float32)}),
            ("image", {"source": np.zeros((0, 8, 3), np.uint8)}),
            ("mask", {"mask": corner()}),
            ("mask", {"source": speckled(), "mask": corner(64, 64)}),
            ("mask", {"source": speckled(), "mask": np.zeros((SIDE, SIDE), np.uint8)}),
        ],
    )
    def test_arguments_out_of_range(self, model, field, arguments):
        """The refusal names the field, before any work."""
        with pytest.raises(InvalidField) as refused:
            paint(model, "a red star", cancelled=lambda: pytest.fail("work had begun"), **arguments)

        assert refused.value.facts["field"] == field

    @pytest.mark.parametrize("contents", [b"", b"no model", MODEL.read_bytes()[:1000]])
    def test_files_that_are_no_image_model(self, tmp_path, contents):
        """Are refused by name when they are opened."""
        path = tmp_path / "broken.onnx"
        path.write_bytes(contents)

        with pytest.raises(InvalidField, match=r"broken\.onnx is no image model"):
            ImageModel.open(path)

    def test_a_file_that_is_not_there(self, tmp_path):
        """Is the system's own error."""
        with pytest.raises(FileNotFoundError):
            ImageModel.open(tmp_path / "none.onnx")


class TestCancelling:
    @pytest.mark.parametrize("source", [None, speckled()], ids=["drawing", "changing"])
    def test_it_stops_at_the_next_look(self, model, source):
        """Whenever the caller goes, the picture ends there: no look comes after the one that said so."""
        looks = 0

        def count():
            nonlocal looks
            looks += 1
            return looks > limit

        limit = 10**6
        paint(model, "a red star", source=source, cancelled=count)
        total = looks
        assert total >= STEPS

        for limit in (0, 1, STEPS - 1, total - 1):
            looks = 0
            with pytest.raises(RenderCancelled):
                paint(model, "a red star", source=source, cancelled=count)
            assert looks == limit + 1


class TestFile:
    def test_it_is_small(self):
        """The model travels with the source: one file of at most fifteen million bytes."""
        assert MODEL.stat().st_size <= 15_000_000

    def test_the_card_is_of_this_file(self):
        """Digest and size in the card are the file's, and its pictures are there."""
        card = MODEL.with_suffix(".md").read_text("utf-8")

        assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in card
        assert f"{MODEL.stat().st_size:,} bytes" in card
        assert f"({MODEL.with_suffix('.png').name})" in card
        assert MODEL.with_suffix(".png").is_file()

    def test_it_knows_its_words(self):
        """The vocabulary in the file is the one that it was trained with."""
        facts = json.loads(onnxruntime.InferenceSession(MODEL).get_modelmeta().custom_metadata_map["aos.pictures"])

        assert facts["vocabulary"] == vocabulary()
        assert (facts["begin"], facts["length"]) == (COUNT, LENGTH)

    @given(st.lists(st.sampled_from([*vocabulary(), *MEANINGS, "cat", "the", ",", "left", "of", "next", "on top"]), max_size=12))
    def test_it_reads_as_it_was_taught(self, words):
        """At run time a text means what it meant in training."""
        text = " ".join(words)

        assert meanings(re.findall(r"\w+|[^\w\s]", text.lower()), vocabulary()) == encode(text)
