"""What the image engine decides without its model: windows, masks, rows of numbers, what counts as a change."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aos.operator.image_scene import (
    ANSWERS,
    CELLS,
    COLOR,
    MOVED,
    PLACE,
    RADIUS,
    ROWS,
    SEAM,
    THINGS,
    Picture,
    Thing,
    Window,
    bands,
    faults,
    found_in,
    hole_of,
    patch_of,
    picture_of,
    points_of,
    rows_of,
    steadied,
    touched,
    true_colors,
    widened,
    window_of,
)
from tools.picture_model.examples import example
from tools.picture_model.judge import look
from tools.picture_model.scenes import COLORS, HELD_OUT, SHAPES, Scene, draw, make_thing, tint
from tools.picture_model.slots import background_row, thing_row

RED, BLUE = (220.0, 40.0, 40.0), (50.0, 90.0, 220.0)


def thing(x=0.5, y=0.5, radius=0.2, color=RED, shape=0):
    return Thing(x, y, radius, color, shape)


def masked(height, width, rows, columns):
    mask = np.zeros((height, width), np.bool_)
    mask[rows, columns] = True
    return mask


class TestWindow:
    def test_it_is_the_middle_of_a_picture(self):
        """The largest square, in the middle."""
        assert window_of(200, 80, None) == Window(60, 0, 80)
        assert window_of(80, 200, None) == Window(0, 60, 80)
        assert window_of(80, 80, None) == Window(0, 0, 80)

    def test_it_goes_where_there_is_something_to_paint(self):
        """Along the longer side, as near as it can be to the mask's middle."""
        assert window_of(200, 80, masked(80, 200, slice(0, 80), slice(190, 200))) == Window(120, 0, 80)
        assert window_of(200, 80, masked(80, 200, slice(10, 20), slice(40, 60))) == Window(10, 0, 80)
        assert window_of(200, 80, np.zeros((80, 200), np.bool_)) == Window(60, 0, 80)

    def test_the_hole_is_told_in_the_windows_measure(self):
        """Left, top, right, bottom around its middle, and that there is one."""
        mask = masked(100, 200, slice(50, 100), slice(75, 100))
        window = window_of(200, 100, mask)

        assert window.left == 37
        assert hole_of(mask, window) == pytest.approx([-0.48, 0.0, 0.52, 2.0, 1.0])
        assert not hole_of(np.zeros((100, 200), np.bool_), window).any()


class TestRows:
    def test_they_are_written_as_in_training(self):
        """A thing and a background have the rows that the model was trained with."""
        dice = random.Random(3)
        for _ in range(20):
            one = make_thing(dice)
            rgb = tuple(255 * part for part in one.rgb)
            rows = rows_of(Picture(RED, ((2, Thing(one.x, one.y, one.radius, rgb, SHAPES.index(one.shape))),)))

            assert rows[2] == pytest.approx(thing_row(one), abs=1e-5)
            assert rows[0] == pytest.approx(background_row(tuple(part / 255 for part in RED)), abs=1e-5)
            assert rows[1] == pytest.approx(thing_row(None))

    def test_they_are_read_as_they_were_written(self):
        """Reading and writing are each other's inverse."""
        shown = Picture(BLUE, ((1, thing(shape=3)), (4, thing(0.25, 0.75, 0.1, BLUE, 7))))
        back = picture_of(rows_of(shown))

        assert [number for number, _ in back.things] == [1, 4]
        for (_, one), (_, other) in zip(back.things, shown.things, strict=True):
            assert (one.x, one.y, one.radius, *one.color) == pytest.approx((other.x, other.y, other.radius, *other.color), abs=1e-3)
            assert one.shape == other.shape

    @given(arrays.arrays(np.float32, (ROWS, 15), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
    def test_whatever_the_rows_say_can_be_painted(self, rows):
        """Places, radii and colours of any rows are within bounds."""
        shown = picture_of(rows)

        assert all(0 <= part <= 255 for part in shown.background)
        for _, one in shown.things:
            assert 0 <= one.x <= 1
            assert 0 <= one.y <= 1
            assert 0.05 <= one.radius <= 0.45
            assert all(0 <= part <= 255 for part in one.color)


class TestFinding:
    def said(self, *cells):
        """What the model says when it is sure of these cells: (size, row, column, logit, radius's logarithm)."""
        answers = np.full((2, ANSWERS, CELLS, CELLS), 0, np.float32)
        answers[:, 0] = -8
        for kind, row, column, logit, radius in cells:
            answers[kind, 0, row, column], answers[kind, 3, row, column] = logit, radius
        return np.append(answers.ravel(), np.zeros(3, np.float32))

    def test_one_thing_in_two_cells_is_one(self):
        """Of neighbouring cells the surest speaks; a thing seen as small and as large is there once."""
        found = found_in(self.said((0, 4, 4, 3, 0), (0, 4, 5, 2, 0), (1, 4, 4, 1, 0.2))).things

        assert [(one.x, one.y, one.radius) for _, one in found] == [(4.5 / 16, 4.5 / 16, 0.17)]

    def test_a_thing_inside_another_is_found(self):
        """Of two in one place that differ much in size both are there, the larger one below."""
        found = found_in(self.said((0, 8, 8, 3, -0.6), (1, 8, 8, 5, 0.6))).things

        assert [number for number, _ in found] == [1, 2]
        assert found[0][1].radius > 2 * found[1][1].radius

    def test_there_are_never_more_than_fit(self):
        """The surest ones are kept."""
        found = found_in(self.said(*((0, 3 * number, 3, 1 + number, 0) for number in range(5)))).things

        assert len(found) == THINGS
        assert {one.y for _, one in found} == {(3 * number + 0.5) / 16 for number in (1, 2, 3, 4)}


class TestSteadying:
    def test_small_changes_are_put_back(self):
        """What hardly moved did not move; what did, did."""
        before = rows_of(Picture(RED, ((1, thing()), (2, thing(0.2, 0.2)))))
        after = before.copy()
        after[1, PLACE] += MOVED / 2
        after[1, COLOR] = -1
        after[2, PLACE] += 2 * MOVED
        after[2, RADIUS] += 0.01
        steady = steadied(before, after)

        assert (steady[1, PLACE] == before[1, PLACE]).all()
        assert (steady[1, COLOR] == -1).all()
        assert (steady[2, PLACE] == after[2, PLACE]).all()
        assert steady[2, RADIUS] == before[2, RADIUS]

    def test_what_comes_or_goes_is_no_small_change(self):
        """A row that was empty, or becomes so, is taken as it is."""
        before, after = rows_of(Picture(RED, ((1, thing()),))), rows_of(Picture(RED, ((2, thing()),)))

        assert (steadied(before, after)[1:] == after[1:]).all()


class TestFaults:
    def test_things_apart_have_none(self):
        """Nor has a thing wholly inside another."""
        assert faults(Picture(BLUE, ((1, thing(0.25)), (2, thing(0.75))))) == 0
        assert faults(Picture(BLUE, ((1, thing(radius=0.3)), (2, thing(radius=0.1))))) == 0

    def test_overlap_grows_with_what_is_shared(self):
        """The nearer two things are, or the further over the edge, the more."""
        assert faults(Picture(BLUE, ((1, thing(0.4)), (2, thing(0.7))))) == pytest.approx(0.1)
        assert faults(Picture(BLUE, ((1, thing(0.1)),))) == pytest.approx(0.1)

    def test_what_cannot_be_seen_is_worse(self):
        """A thing of nearly the background's colour outweighs any overlap of two."""
        assert faults(Picture(RED, ((1, thing()),))) == 1
        assert faults(Picture((220, 40, 89), ((1, thing()),))) == 1
        assert faults(Picture((220, 40, 91), ((1, thing()),))) == 0


class TestPainting:
    @given(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2), st.floats(0.05, 0.45), st.integers(16, 90), st.integers(16, 90))
    def test_a_patch_lies_in_the_picture(self, x, y, radius, width, height):
        """Whatever the thing, its rows and columns are the picture's, and there is a point for each of their pixels."""
        one, window = thing(x, y, radius), window_of(width, height, None)
        rows, columns = patch_of(one, window, width, height)

        assert rows.start >= 0
        assert rows.stop <= height
        assert columns.start >= 0
        assert columns.stop <= width
        if rows.start < rows.stop and columns.start < columns.stop:
            points = points_of(rows, columns, one, window)
            assert points.shape == ((rows.stop - rows.start) * (columns.stop - columns.start), 2)

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 30), st.integers(1, 400))
    def test_bands_are_the_whole(self, start, length, wide, most):
        """In order, none too large unless it is a single row, and nothing twice."""
        parts = bands(slice(start, start + length), slice(0, wide), most)

        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(start, start + length))
        assert all(part.stop - part.start == 1 or (part.stop - part.start) * wide <= most for part in parts)

    @given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 4))
    def test_widening_is_a_square_around_each_pixel(self, mask, reach):
        """Every pixel within reach of one that is set, and no other."""
        expected = np.zeros_like(mask)
        for row, column in np.argwhere(mask):
            expected[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True

        assert (widened(mask, reach) == expected).all()

    def test_only_what_differs_is_touched(self):
        """Differences that cannot be seen do not count; where a thing was, or the background changes, a seam comes with them."""
        before = np.full((100, 100, 3), 100, np.float32)
        after = before.copy()
        after[:, 80] += 1
        assert not touched(before, after, 100, None).any()

        after[50, 50, 1] += 9
        seam = max(1, round(SEAM * 100))
        assert touched(before, after, 100, (100, 100, 100)).sum() == 1
        assert touched(before, after, 100, (100, 100, 0)).sum() == (2 * seam + 1) ** 2
        assert touched(before, after, 100, None).sum() == (2 * seam + 1) ** 2

    def test_colours_are_those_of_the_source(self):
        """The median of what is seen of each; what is not seen keeps what was said of it."""
        source = np.zeros((4, 4, 3), np.uint8)
        source[0], source[1] = 9, 200
        layers = {1: masked(4, 4, 0, slice(None)), 2: np.zeros((4, 4), np.bool_)}
        shown = true_colors(Picture(RED, ((1, thing()), (2, thing(color=BLUE)))), source, layers, masked(4, 4, 1, slice(None)))

        assert shown.background == (200, 200, 200)
        assert [one.color for _, one in shown.things] == [(9, 9, 9), BLUE]


class TestJudge:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_it_knows_the_shapes(self, shape):
        """Of pictures that are known it tells shape, colour and background: it can be believed of others."""
        dice = random.Random(shape)
        for color in COLORS:
            background = "black" if color != "black" else "yellow"
            one = make_thing(dice, shape=shape, color=color, size=dice.choice(("small", "medium", "large")))
            scene = Scene(background, tint(dice, background), (one,))
            seen = look(np.rint(draw(scene, 128) * 255).astype(np.uint8))

            assert (seen[0], [(found.shape, found.color) for found in seen[1]]) == (background, [(shape, color)])


class TestTraining:
    def test_held_out_pairs_are_never_shown(self):
        """One colour of each shape stays unseen in training: what is measured of them was composed."""
        dice = random.Random(9)
        tasks = [example(dice) for _ in range(1500)]
        shown = {(one.shape, one.color) for task in tasks for scene in (task.target, task.source) if scene for one in scene.things}

        assert len(HELD_OUT) == len(SHAPES)
        assert not shown & HELD_OUT
        assert len(shown) == len(SHAPES) * len(COLORS) - len(HELD_OUT)
