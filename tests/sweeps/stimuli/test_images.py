"""The geometry against Pillow itself, and pictures in zips and folders, local and remote."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.io.filesystem import open_filesystem
from sweeps.stimuli import images
from sweeps.stimuli.images import ImageFolder

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def zipped(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def without_palette() -> bytes:
    """A PNG of palette colours whose palette is cut out."""
    stream = io.BytesIO()
    Image.new("P", (4, 4)).save(stream, "PNG")
    content = stream.getvalue()
    start = content.index(b"PLTE") - 4
    return content[:start] + content[start + 12 + int.from_bytes(content[start : start + 4], "big") :]


def huge_png(side: int) -> bytes:
    """A picture of a few bytes that claims to be very large."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    packed = [struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


TWO = {"a.png": png(PICTURE), "deep/b.png": png(255 - PICTURE)}


@pytest.fixture
def memory(memory_scheme: None) -> Iterator[str]:
    yield "memory://images-test"
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists("/images-test"):
        filesystem.rm("/images-test", recursive=True)


@pytest.mark.parametrize("size", [16, 40, 112])
@pytest.mark.parametrize("crop", [1.0, 0.5, 0.33])
def test_geometry_is_a_crop_and_then_a_bicubic_resize(size: int, crop: float) -> None:
    width, height = round(60 * crop), round(40 * crop)
    left, top = (60 - width) // 2, (40 - height) // 2
    image = Image.fromarray(PICTURE)
    cut = image.crop((left, top, left + width, top + height))
    assert np.array_equal(
        Geometry(size, crop).apply(image), np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
    )


def test_resizing_does_not_alias() -> None:
    """A fine checkerboard becomes even grey; picking every eighth pixel would give black or white."""
    board = ((np.indices((128, 128)).sum(axis=0) % 2) * 255).astype(np.uint8)
    assert np.abs(Geometry(16).apply(Image.fromarray(board)).astype(int) - 128).max() <= 2


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    square = PICTURE[:40, :40]
    assert np.array_equal(Geometry(40).apply(Image.fromarray(square)), square)


def test_the_centre_is_kept() -> None:
    frame = np.zeros((8, 8), np.uint8)
    frame[2:6, 2:6] = 200
    assert np.all(Geometry(4, 0.5).apply(Image.fromarray(frame)) == 200)


def test_grey_becomes_three_equal_channels() -> None:
    grey = PICTURE[..., 0]
    shown = Geometry(24).apply(Image.fromarray(grey))
    assert np.array_equal(shown, Geometry(24).apply(Image.fromarray(grey).convert("RGB")))
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    deep = PICTURE[..., 0].astype(np.uint16) * 257
    stored = Image.open(io.BytesIO(png(deep)))
    assert np.array_equal(Geometry(24).apply(stored), Geometry(24).apply(Image.fromarray(PICTURE[..., 0])))


def test_transparency_lies_on_mid_grey() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    solid = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    assert np.all(Geometry(4).apply(clear) == 128)
    assert np.all(Geometry(4).apply(solid) == [255, 0, 0])
    assert np.all(Geometry(4).apply(Image.new("LA", (8, 8), (9, 0))) == 128)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "RGBA", "L", "YCbCr", "HSV"])
def test_every_common_mode_is_shown(mode: str) -> None:
    shown = Geometry(8).apply(Image.fromarray(PICTURE[..., 0]).convert("RGB").convert(mode))
    assert shown.shape == (8, 8, 3)
    assert shown.dtype == np.uint8


def test_keys_are_equal_exactly_for_equal_geometries() -> None:
    keys = {Geometry(s, c).key() for s in (64, 112) for c in (0.5, 0.50000001, 1.0)}
    assert len(keys) == 6
    assert Geometry(64, 1).key() == Geometry(64, 1.0).key()


@pytest.mark.parametrize("crop", [0, -0.1, 1.7, float("nan"), float("inf"), True, "half"])
def test_bad_crops(crop: object) -> None:
    with pytest.raises(ValueError, match=r"crop must be a number above 0 up to 1"):
        Geometry(112, crop)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, 5000, 1.5, True, "112"])
def test_bad_sizes(size: object) -> None:
    with pytest.raises(ValueError, match=r"size must be a whole number"):
        Geometry(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["zip", "folder", "remote zip", "remote folder"])
@pytest.mark.parametrize("direct", [False, True])
def test_the_same_pictures_wherever_they_are(tmp_path: Path, memory: str, where: str, direct: bool) -> None:
    base = memory if "remote" in where else str(tmp_path)
    for name, content in {"images.zip": zipped(TWO)}.items() if "zip" in where else TWO.items():
        path = name if "zip" in where else f"images/{name}"
        with fsspec.open(f"{base}/{path}", "wb", auto_mkdir=True) as file:
            file.write(content)
    opened = ImageFolder(f"{base}/images" + (".zip" if "zip" in where else "") if direct else base)
    assert opened.names == ["a.png", "deep/b.png"]
    pixels = opened.load(["b.png", "a.png", "deep/b.png"], Geometry(24, 0.5))
    first, second = (Geometry(24, 0.5).apply(Image.fromarray(p)) for p in (PICTURE, 255 - PICTURE))
    assert np.array_equal(pixels, [second, first, second])
    assert np.array_equal(np.asarray(opened.read("a.png")), PICTURE)
    copy = pickle.loads(pickle.dumps(opened))
    assert copy.names == opened.names
    assert copy.digest() == opened.digest()


def test_a_remote_zip_is_fetched_once(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/images-test/images.zip", zipped(TWO))
    fetched = []
    monkeypatch.setattr(images, "open_filesystem", lambda url: (Counting(filesystem, fetched), "/images-test"))
    opened = ImageFolder(memory)
    opened.load(opened.names * 3, Geometry(8))
    opened.digest()
    assert fetched == ["/images-test/images.zip"]


class Counting:
    """A file system that notes what is fetched."""

    def __init__(self, inner: object, fetched: list[str]) -> None:
        self.inner, self.fetched = inner, fetched

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def cat_file(self, path: str) -> bytes:
        self.fetched.append(path)
        return self.inner.cat_file(path)  # type: ignore[attr-defined, no-any-return]


def test_listings_of_a_bucket_are_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url, **options: asked.update({url: options}) or (None, url))
    open_filesystem("s3://lab/data")
    open_filesystem("data/here")
    assert asked["s3://lab/data"]["use_listings_cache"] is False
    assert set(asked) == {"s3://lab/data"}


def test_more_pictures_than_a_batch(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    names = [f"{i:03}.png" for i in range(images.BATCH + 9)]
    for i, name in enumerate(names):
        Image.new("L", (4, 4), i).save(tmp_path / "images" / name)
    pixels = ImageFolder(str(tmp_path)).load(names[::-1], Geometry(4))
    assert pixels[:, 0, 0, 0].tolist() == list(range(len(names)))[::-1]


def test_what_a_mac_leaves_in_a_zip_is_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(
        zipped({**TWO, "__MACOSX/._a.png": b"x", ".hidden.png": b"x", "notes.txt": b"x"})
    )
    assert ImageFolder(str(tmp_path)).names == ["a.png", "deep/b.png"]


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "deep/../../a.png", "..\\a.png", "C:\\a.png", "s3://a.png", ""])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "images.zip").write_bytes(zipped(TWO))
    with pytest.raises(InputError, match="is not safe"):
        ImageFolder(str(tmp_path)).load([name], Geometry(8))


@pytest.mark.parametrize("entry", ["../evil.png", "/evil.png", "x/../../evil.png"])
def test_an_archive_with_entries_that_lead_outside_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "images.zip").write_bytes(zipped({**TWO, entry: png(PICTURE)}))
    with pytest.raises(InputError, match="is not safe"):
        ImageFolder(str(tmp_path)).load(["a.png"], Geometry(8))


@pytest.mark.parametrize(
    ("contents", "name", "complaint"),
    [
        (TWO, "c.png", r"images\.zip: there is no image 'c\.png' among 2 files"),
        ({"x/a.png": b"1", "y/a.png": b"2"}, "a.png", r"'a\.png' is ambiguous: x/a\.png, y/a\.png"),
        (
            {"a.png": b"not a picture"},
            "a.png",
            r"images\.zip: image 'a\.png' cannot be read: no known picture format",
        ),
        ({"a.png": png(PICTURE)[:400]}, "a.png", r"image 'a\.png' cannot be read"),
        ({"a.png": without_palette()}, "a.png", r"image 'a\.png' cannot be read: it has no palette"),
        ({"a.png": huge_png(12_000)}, "a.png", r"image 'a\.png' cannot be read: 144000000 pixels, the limit"),
        ({"a.png": huge_png(60_000)}, "a.png", r"image 'a\.png' cannot be read: .*decompression bomb"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pictures_that_cannot_be_had(tmp_path: Path, contents: dict[str, bytes], name: str, complaint: str) -> None:
    (tmp_path / "images.zip").write_bytes(zipped(contents))
    with pytest.raises(InputError, match=complaint):
        ImageFolder(str(tmp_path)).load([name], Geometry(8))


def test_an_entry_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "images.zip").write_bytes(zipped({"a.png": b"\0" * 2**21}))
    with pytest.raises(InputError, match="too large"):
        ImageFolder(str(tmp_path)).read("a.png")


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    packed = bytearray(zipped(TWO))
    packed[60] ^= 0xFF
    (tmp_path / "images.zip").write_bytes(packed)
    with pytest.raises(InputError, match=r"image 'a\.png' cannot be read"):
        ImageFolder(str(tmp_path)).read("a.png")


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither images\.zip nor a folder images/"):
        ImageFolder(str(tmp_path)).names  # noqa: B018
    with pytest.raises(InputError, match=r"neither images\.zip"):
        ImageFolder(str(tmp_path / "nowhere")).names  # noqa: B018
    with pytest.raises(InputError, match="missing file"):
        ImageFolder(str(tmp_path / "nowhere.zip")).names  # noqa: B018
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a readable zip"):
        ImageFolder(str(tmp_path)).names  # noqa: B018


def test_unknown_protocols() -> None:
    with pytest.raises(InputError, match=r"nosuch://x: unknown scheme"):
        ImageFolder("nosuch://x").names  # noqa: B018
