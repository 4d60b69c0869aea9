"""Fuzzed inputs: pointers in place of files, tiers of words, Praat's symbols, names of pictures."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.io.pointers import refuse_pointer
from sweeps.recordings.readers.praat_symbols import SYMBOLS, decoded_symbols
from sweeps.recordings.readers.textgrid import Word, read_spoken, read_words
from sweeps.stimuli.picture_names import PictureNames

KEY = st.text("ABCDEF0123456789-", min_size=1, max_size=60)


@given(st.sampled_from(["/annex/objects/", "../.git/annex/objects/x/y/", "..\\.git\\annex\\objects\\a\\"]), KEY)
def test_every_annex_pointer_is_refused(start: str, key: str) -> None:
    for end in ("", "\n", "\r\n"):
        with pytest.raises(
            InputError, match=r"x\.npy: is a pointer of git-annex that was not fetched: `datalad get x\.npy`"
        ):
            refuse_pointer(f"{start}{key}{end}".encode(), "x.npy")


@given(st.sampled_from(["git-lfs", "hawser"]), st.binary(max_size=200))
def test_every_lfs_pointer_is_refused(host: str, rest: bytes) -> None:
    with pytest.raises(InputError, match="`git lfs pull`"):
        refuse_pointer(f"version https://{host}.github.com/spec/v1\n".encode() + rest, "x.npy")


@given(st.binary(max_size=300))
def test_other_contents_are_no_pointers(content: bytes) -> None:
    for start in (b"\x93NUMPY", b"PK\x03\x04", b"file,group\n", b"\x89PNG", b"annexed/objects/"):
        refuse_pointer(start + content, "x")


# -- TextGrids --------------------------------------------------------------------------------------

NAME = st.text("abcdefgh -_()1", max_size=12).filter(lambda name: "word" not in name)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=8)


def grid(tiers: dict[str, str]) -> str:
    """A short TextGrid with one interval a tier."""
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n{len(tiers)}\n'
    quoted = [(name.replace('"', '""'), text.replace('"', '""')) for name, text in tiers.items()]
    return head + "".join(f'"IntervalTier"\n"{name}"\n0\n1\n1\n0\n1\n"{text}"\n' for name, text in quoted)


@given(
    st.lists(NAME, max_size=4, unique=True), st.sampled_from(["words", '"Word"', "anna - words", "WordTier"]), st.data()
)
def test_the_tier_that_says_words_is_read_wherever_it_stands(others: list[str], name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(others)))
    names = [*others[:place], name, *others[place:]]
    spoken = read_spoken(grid({entry: f"of{entry}" for entry in names}).encode(), "x")
    assert spoken.tier == name
    assert [word.text for word in spoken.words] == [f"of{name}".lower()]


@given(st.lists(NAME, max_size=4, unique=True))
def test_without_such_a_tier_the_file_is_refused_until_one_is_named(names: list[str]) -> None:
    content = grid({name: f"of{name}" for name in names}).encode()
    with pytest.raises(InputError, match="name one by the key `tier`") as error:
        read_words(content, "x")
    for name in names:
        assert repr(name).replace("  ", " ").split()[0] in str(error.value)
        assert read_words(content, "x", name) == [Word(f"of{name}".lower().strip(), 0.0, 1.0)]


@given(TEXT.filter(lambda text: "\\" not in text and text.strip().lower()[:1] not in ("{", "[", "(", "<", "")))
def test_a_word_is_the_same_in_every_encoding(text: str) -> None:
    content = grid({"phones": "x", "words": "a" + text})
    expected = [("a" + text).strip().lower()]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        assert [word.text for word in read_words(content.encode(encoding), "x")] == expected


@given(st.lists(st.sampled_from(sorted(SYMBOLS)), min_size=1, max_size=5), st.text("xyzq ", max_size=3))
def test_symbols_are_decoded_one_by_one(keys: list[str], between: str) -> None:
    coded = between.join(f"\\{key}" for key in keys)
    assert decoded_symbols(coded) == between.join(SYMBOLS[key] for key in keys)


# What Praat's manual prints, by the names that Unicode gives the letters.
PRINTED = {
    'a"': "LATIN SMALL LETTER A WITH DIAERESIS",
    "e'": "LATIN SMALL LETTER E WITH ACUTE",
    "e`": "LATIN SMALL LETTER E WITH GRAVE",
    "u^": "LATIN SMALL LETTER U WITH CIRCUMFLEX",
    "n~": "LATIN SMALL LETTER N WITH TILDE",
    "c,": "LATIN SMALL LETTER C WITH CEDILLA",
    "s<": "LATIN SMALL LETTER S WITH CARON",
    "o:": "LATIN SMALL LETTER O WITH DOUBLE ACUTE",
    "ao": "LATIN SMALL LETTER A WITH RING ABOVE",
    "e;": "LATIN SMALL LETTER E WITH OGONEK",
    "O/": "LATIN CAPITAL LETTER O WITH STROKE",
    "ss": "LATIN SMALL LETTER SHARP S",
    "ae": "LATIN SMALL LETTER AE",
    "Th": "LATIN CAPITAL LETTER THORN",
    "sw": "LATIN SMALL LETTER SCHWA",
    "ng": "LATIN SMALL LETTER ENG",
    "al": "GREEK SMALL LETTER ALPHA",
    "T+": "HEBREW LETTER TAV",
    "K%": "HEBREW LETTER FINAL KAF",
    "~^": "COMBINING TILDE",
    "'1": "MODIFIER LETTER VERTICAL LINE",
    "bs": "REVERSE SOLIDUS",
}


@pytest.mark.parametrize("key", PRINTED)
def test_symbols_are_those_of_the_manual(key: str) -> None:
    assert decoded_symbols(f"\\{key}") == unicodedata.lookup(PRINTED[key])


def test_symbols_and_lines_within_a_word() -> None:
    content = grid({"phones": "x", "words": 'Gr\\o"\\sse\nOne \\qq'})
    spoken = read_spoken(content.encode(), "x")
    assert [word.text for word in spoken.words] == ["größe one \\qq"]
    assert not spoken.as_before


def test_what_was_read_before_keeps_its_identity() -> None:
    for tiers, as_before in (
        ({"phone": "AH", "word": "A"}, True),
        ({"word": "A", "phone": "AH"}, True),
        ({"phone": "AH", "spoken words": "A"}, True),
        ({"spoken words": "A", "phone": "AH"}, False),
        ({"phone": "AH", "word": "caf\\e'"}, False),
        ({"phone": "AH", "word": "it's \\"}, True),
    ):
        assert read_spoken(grid(tiers).encode(), "x").as_before == as_before


# -- names of pictures ------------------------------------------------------------------------------

PART = st.text("abcéüñ01", min_size=1, max_size=5)
PATHS = st.lists(st.tuples(st.lists(PART, max_size=2), PART), min_size=1, max_size=8)


def spelt(path: str, form: str, back: bool, large: bool, lead: str) -> str:
    stem, _, suffix = path.rpartition(".")
    name = f"{lead}{unicodedata.normalize(form, stem)}.{suffix.upper() if large else suffix}"
    return name.replace("/", "\\") if back else name


@given(
    PATHS,
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["NFC", "NFD"]),
    *[st.booleans()] * 3,
    st.sampled_from(["", "images/", "./", "set/"]),
)
def test_a_picture_is_found_by_any_spelling_of_its_whole_path(
    paths: list[tuple[list[str], str]], form: str, other: str, back: bool, large: bool, turned: bool, lead: str
) -> None:
    entries = sorted({"/".join([*folders, f"{name}.png"]) for folders, name in paths})
    stored = [spelt(entry, other, turned, False, "") for entry in entries]
    names = PictureNames(stored, "data/set.zip")
    for entry, place in zip(entries, stored, strict=True):
        assert names.find(place) == place
        assert names.find(spelt(entry, form, back, large, lead)) in stored
        if not lead:
            assert names.find(spelt(entry, form, back, large, lead)) == place


@given(PATHS, PART)
def test_what_is_not_there_is_answered_with_what_is(paths: list[tuple[list[str], str]], name: str) -> None:
    entries = sorted({"/".join([*folders, f"{part}.png"]) for folders, part in paths})
    with pytest.raises(InputError) as error:
        PictureNames(entries, "x").find(f"{name}.jpg")
    assert any(repr(entry) in str(error.value).rpartition("the nearest is ")[2] for entry in entries)


@given(
    st.sampled_from(["..", "../a.png", "a/../../b.png", "..\\b.png", "C:\\a.png", "/a.png", "s3://b/a.png", "a\0.png"])
)
def test_no_spelling_leads_out(name: str) -> None:
    with pytest.raises(InputError, match="is not safe"):
        PictureNames(["a.png"], "x").find(name)


def test_two_files_of_one_spelling_are_ambiguous_unless_one_is_meant_exactly() -> None:
    names = PictureNames(["a/x.PNG", "b/x.png", "cafe\u0301.png", "caf\u00e9.png"], "x")
    assert names.find("caf\u00e9.png") == "caf\u00e9.png"
    assert names.find("a/x.png") == "a/x.PNG"
    with pytest.raises(InputError, match="ambiguous"):
        names.find("x.Png")
