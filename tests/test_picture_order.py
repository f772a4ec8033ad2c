"""Orders for pictures: limits, defaults, digests, and what they take."""

from __future__ import annotations

import hashlib

import pytest

from aos.errors import InvalidField
from aos.order import canonical_order, check_order, digest_order, with_defaults
from aos.picture_order import digest_input, picture_tokens, seed_of, with_digests, without_files
from aos.v1.types_pb2 import Constraint, Order, Picture, PictureInput, Sampling

NAME = hashlib.sha256(b"file").digest()


def an_order(**picture) -> Order:
    return Order(model="m", picture=PictureInput(**{"prompt": "a red circle"} | picture))


class TestLimits:
    @pytest.mark.parametrize(
        "picture",
        [
            {},
            {"width": 64, "height": 2048},
            {"width": 1536, "height": 1024},
            {"count": 10},
            {"sources": [Picture(data=b"file")]},
            {"sources": [Picture(data=b"file")] * 16},
            {"sources": [Picture(sha256=NAME)], "mask": Picture(data=b"mask")},
            {"prompt": "x" * 32_768},
        ],
        ids=["plain", "narrow", "largest", "many", "source", "sources", "mask", "long"],
    )
    def test_taken(self, picture):
        """What is within the limits is taken."""
        check_order(an_order(**picture))

    @pytest.mark.parametrize(
        ("picture", "field", "says"),
        [
            ({"prompt": ""}, "prompt", "must not be empty"),
            ({"prompt": " \n"}, "prompt", "must not be empty"),
            ({"prompt": "ü" * 16_385}, "prompt", "has 32770 bytes; at most 32768"),
            ({"width": 63}, "width", "must be from 64 to 2048, not 63"),
            ({"height": 2049}, "height", "must be from 64 to 2048"),
            ({"width": 2048, "height": 1024}, "width", "is 2097152 pixels; at most 1572864"),
            ({"count": 11}, "count", "must be at most 10"),
            ({"sources": [Picture(data=b"a")] * 17}, "sources", "must have at most 16, not 17"),
            ({"sources": [Picture(data=bytes(2 << 20))] * 4}, "sources", "have 8388608 bytes together; at most 6291456"),
            ({"sources": [Picture()]}, "sources[0].sha256", "or the file is needed"),
            ({"sources": [Picture(sha256=b"short")]}, "sources[0].sha256", "must have 32 bytes"),
            ({"sources": [Picture(data=bytes((5 << 20) + 1))]}, "sources[0].data", "at most 5242880"),
            ({"mask": Picture(data=b"a")}, "mask", "needs a source"),
            ({"sources": [Picture(data=b"a")], "mask": Picture(data=bytes((1 << 20) + 1))}, "mask.data", "at most 1048576"),
        ],
    )
    def test_refused(self, picture, field, says):
        """What is not within them is refused by the field's name, with the limit."""
        with pytest.raises(InvalidField) as refusal:
            check_order(an_order(**picture))
        assert refusal.value.violations[0].field == f"order.picture.{field}"
        assert says in refusal.value.message

    def test_only_a_seed(self):
        """Of the sampling parameters pictures have a seed; the others are refused, and so is a form."""
        order = an_order()
        order.sampling.seed = 7
        check_order(order)
        order.sampling.temperature = 0.5
        with pytest.raises(InvalidField, match=r"order\.sampling\.temperature: is not for pictures"):
            check_order(order)
        order.sampling.CopyFrom(Sampling())
        order.constraint.CopyFrom(Constraint(json_object=True))
        with pytest.raises(InvalidField, match=r"order\.constraint: is not for pictures"):
            check_order(order)


class TestDefaults:
    def test_stated(self):
        """An accepted order says its size, its count and its seed."""
        full = with_defaults(an_order(), job=bytes(32))
        assert (full.picture.width, full.picture.height, full.picture.count) == (1024, 1024, 1)
        assert full.sampling.HasField("seed")
        assert [field.name for field, _ in full.sampling.ListFields()] == ["seed"]

    def test_each_picture_has_a_seed(self):
        """The pictures of one order have one seed behind the other; behind the last comes 0."""
        order = an_order(count=3)
        order.sampling.seed = (1 << 63) - 2
        assert [seed_of(order, index) for index in range(3)] == [(1 << 63) - 2, (1 << 63) - 1, 0]


class TestDigests:
    def test_canonical(self):
        """Canonical JSON has what is set, and files by their names."""
        order = an_order(width=256, height=128, count=2, sources=[Picture(data=b"file")], mask=Picture(data=b"mask"))
        assert canonical_order(order).decode() == (
            f'{{"model":"m","picture":{{"count":2,"height":128,"mask":"{hashlib.sha256(b"mask").hexdigest()}",'
            f'"prompt":"a red circle","sources":["{NAME.hex()}"],"width":256}},"sampling":{{}}}}'
        )

    def test_with_and_without_files(self):
        """An order has the same digest with its files and with their names alone."""
        order = an_order(sources=[Picture(data=b"file")], mask=Picture(data=b"mask"))
        full = with_digests(order)
        bare = without_files(full)
        assert digest_order(order) == digest_order(full) == digest_order(bare)
        assert digest_input(order.picture) == digest_input(bare.picture)
        assert (bare.picture.sources[0].data, bare.picture.sources[0].sha256) == (b"", NAME)

    def test_a_false_name(self):
        """A file that is not what its name says is refused."""
        with pytest.raises(InvalidField, match="is not the file's"):
            with_digests(an_order(sources=[Picture(data=b"other", sha256=NAME)]))

    def test_of_the_input(self):
        """The digest of the input is that of the prompt's and the files' digests, so no two inputs share it."""
        digest = hashlib.sha256(hashlib.sha256(b"a red circle").digest() + NAME).digest()
        assert digest_input(an_order(sources=[Picture(sha256=NAME)]).picture) == digest
        assert digest_input(an_order().picture) != digest


class TestTokens:
    @pytest.mark.parametrize(
        ("picture", "prompt", "completion"),
        [
            ({"prompt": "abcd"}, 1, 1024),
            ({"prompt": "abcde", "count": 3, "width": 256, "height": 256}, 2, 192),
            ({"prompt": "abcd", "width": 65, "height": 64}, 1, 5),
            ({"prompt": "abcd", "width": 64, "height": 64, "sources": [Picture(sha256=NAME)]}, 5, 4),
        ],
    )
    def test_counted(self, picture, prompt, completion):
        """A token is four bytes of a prompt, or 1024 pixels of a source or a picture; what is begun counts."""
        assert picture_tokens(an_order(**picture).picture) == (prompt, completion)
