"""What strangers' picture files may be, and what is made of them."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from aos.errors import InvalidField
from aos.pictures import PICTURE_BYTES, head, kind_of, picture_of, read_mask, read_picture, read_transparency, write_png
from tests.pictures import file, hole, moving, pixels, png_that_says


class TestKinds:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_told_by_what_it_holds(self, kind):
        """PNG, JPEG and WebP are known by their bytes, and read as they are."""
        data = file(pixels(), kind)

        found = head(data, "image")
        assert (found.kind, found.width, found.height, found.media_type) == (kind, 96, 64, f"image/{kind.lower()}")
        assert read_picture(data, "image").shape == (64, 96, 3)

    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
    def test_others_are_refused(self, kind):
        """What Pillow could read besides is not read."""
        with pytest.raises(InvalidField, match="image: must be a PNG, JPEG or WebP file"):
            head(file(pixels(), kind), "image")

    @pytest.mark.parametrize("data", [b"", b"\x89PNG", b"RIFF1234WAVE", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"])
    def test_what_is_none(self, data):
        """Text, programs and beginnings of files are no pictures."""
        assert kind_of(data) == ""
        with pytest.raises(InvalidField):
            read_picture(data, "image")

    def test_head_without_a_picture(self):
        """A file that only begins like a picture is refused as one that cannot be read."""
        with pytest.raises(InvalidField, match="mask: cannot be read"):
            read_mask(b"\x89PNG\r\n\x1a\n" + b"junk" * 100, "mask", size=(64, 64))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_half_a_file(self, kind):
        """A file that is cut short is refused: nobody asked for half a picture."""
        data = file(pixels(400, 400), kind)
        with pytest.raises(InvalidField, match="cannot be read"):
            read_picture(data[: len(data) // 2], "image")


class TestLimits:
    def test_bytes(self):
        """More bytes than are taken are refused before anything is looked at."""
        data = file(pixels()) + bytes(PICTURE_BYTES)
        with pytest.raises(InvalidField, match=f"at most {PICTURE_BYTES} are accepted"):
            read_picture(data, "image")

    @pytest.mark.parametrize(("width", "height"), [(4097, 1), (1, 4097), (60_000, 60_000)])
    def test_a_bomb(self, width, height):
        """A few bytes that say they are a huge picture are refused by their head."""
        data = png_that_says(width, height)
        assert len(data) < 1000
        with pytest.raises(InvalidField, match=r"at most 4096 x 4096 are accepted|decompression bomb"):
            read_picture(data, "image")

    def test_a_text_bomb(self):
        """A PNG whose text would unpack to more than is taken is refused."""
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_text("comment", "x" * (64 << 20), zip=True)
        with pytest.raises(InvalidField, match="cannot be read"):
            read_picture(file(pixels(), "PNG", pnginfo=info), "image")

    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    def test_animations(self, kind):
        """A picture that moves is refused, with the count of its frames."""
        with pytest.raises(InvalidField, match="has 3 frames"):
            read_picture(moving(kind), "image")

    def test_largest(self):
        """A picture of the largest size is read."""
        assert read_picture(file(np.zeros((4096, 4096, 3), np.uint8)), "image", size=(64, 64)).shape == (64, 64, 3)


class TestPixels:
    def test_only_pixels_go_on(self):
        """A file that is a picture and an archive ends as its pixels."""
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr("run.sh", "echo hello")
        both = file(pixels()) + archive.getvalue()
        assert zipfile.is_zipfile(BytesIO(both))

        again = write_png(read_picture(both, "image"))

        assert not zipfile.is_zipfile(BytesIO(again))
        assert np.array_equal(read_picture(again, "image"), pixels())

    def test_text_is_dropped(self):
        """Places, names and notes in a file do not go on."""
        exif = Image.Exif()
        exif[0x010E] = "taken at home"
        data = file(pixels(), "JPEG", exif=exif)
        assert b"taken at home" in data
        assert b"taken at home" not in write_png(read_picture(data, "image"))

    def test_upright(self):
        """A picture that says it lies on its side is turned."""
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = read_picture(file(pixels(96, 64), "PNG", exif=exif), "image")
        assert np.array_equal(turned, np.rot90(pixels(96, 64), -1))

    def test_transparent_is_white(self):
        """What is transparent is shown on white."""
        clear = np.zeros((64, 64, 4), np.uint8)
        clear[:32, :, 3] = 255
        shown = read_picture(file(clear), "image")
        assert (shown[0, 0].tolist(), shown[63, 0].tolist()) == ([0, 0, 0], [255, 255, 255])

    def test_scaled(self):
        """A picture is scaled to the size that is asked for."""
        assert read_picture(file(pixels()), "image", size=(128, 256)).shape == (256, 128, 3)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16", "CMYK"])
    def test_any_colours(self, mode):
        """Grey, palettes and the rest become red, green and blue."""
        image = (
            Image.fromarray(pixels()).convert("L").convert("I;16") if mode == "I;16" else Image.fromarray(pixels()).convert(mode)
        )
        assert read_picture(file(image, "JPEG" if mode == "CMYK" else "PNG"), "image").shape == (64, 96, 3)

    def test_the_same_file(self):
        """The same pixels give the same file, and the file the same pixels."""
        assert write_png(pixels()) == write_png(pixels())
        made = picture_of(write_png(pixels()), "picture", most=1 << 20)
        assert (made.width, made.height, made.size) == (96, 64, len(made.data))


class TestMasks:
    def test_transparent(self):
        """Where a mask is transparent, it says: here."""
        mask = read_mask(hole(), "mask", size=(96, 64))
        assert mask[20, 20]
        assert mask.sum() == 32 * 32

    def test_white(self):
        """A mask without transparency says it by white."""
        drawn = np.zeros((64, 96), np.uint8)
        drawn[:8] = 255
        assert read_mask(file(drawn), "mask", size=(96, 64)).sum() == 8 * 96

    def test_nowhere(self):
        """A mask that says nothing is refused: all would stay as it is."""
        with pytest.raises(InvalidField, match="shows nowhere what to paint"):
            read_mask(file(np.zeros((64, 96), np.uint8)), "mask", size=(96, 64))

    def test_scaled(self):
        """A mask is scaled to the picture's size and stays a mask."""
        mask = read_mask(hole(), "mask", size=(192, 128))
        assert (mask.shape, mask.dtype, mask.sum()) == ((128, 192), np.bool_, 64 * 64)

    def test_of_the_picture_itself(self):
        """A picture with a hole has its own mask; one without has none."""
        found = read_transparency(hole(), "image", size=(96, 64))
        assert found is not None
        assert found.sum() == 32 * 32
        assert read_transparency(file(pixels()), "image", size=(96, 64)) is None
