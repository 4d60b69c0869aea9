r"""Praat's special symbols: a backslash and two characters, which stand for one letter or sign.

Source: Praat's manual, "Special symbols" and the pages that it links to (accented letters, Greek, phonetic symbols,
diacritics), checked against the table of its source, kar/longchar.cpp. Left out are the dingbats and Hebrew points.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import re
import unicodedata

ACCENTS = {
    "`": ("\u0300", "aeiou"),
    "'": ("\u0301", "aceinosuyz"),
    "^": ("\u0302", "aeiou"),
    "~": ("\u0303", "ano"),
    '"': ("\u0308", "aeiouy"),
    "!": ("\u0307", "z"),
    "o": ("\u030a", "au"),
    ":": ("\u030b", "ou"),
    "<": ("\u030c", "cdegnrstz"),
    ",": ("\u0327", "c"),
    ";": ("\u0328", "ae"),
}
"""Second characters that put an accent on the first: its combining sign, and the letters, small or large, it takes."""

LETTERS = """
ssß aeæ AeÆ oeœ o/ø O/Ø thþ ThÞ dhð d-đ D-Đ l/ł L/Ł h-ħ
alα beβ gaγ deδ epε zeζ etη teθ t2ϑ ioι kaκ laλ muμ nuν xiξ onο piπ roρ siσ s2ς taτ upυ fiφ f2ϕ ciχ psψ omω o2ϖ
AlΑ BeΒ GaΓ DeΔ EpΕ ZeΖ EtΗ TeΘ IoΙ KaΚ LaΛ MuΜ NuΝ XiΞ OnΟ PiΠ RoΡ SiΣ TaΤ UpΥ FiΦ CiΧ PsΨ OmΩ
atɐ asɑ ayɒ abɒ b^ɓ bcʙ ctɔ ccɕ d.ɖ d^ɗ e-ɘ swə srɚ efɛ erɜ kbɞ j-ɟ g^ɠ gsɡ gcɢ gfɣ rhɤ G^ʛ htɥ h^ɦ hjɧ hcʜ i-ɨ
icɪ jcʝ l~ɫ l-ɬ l.ɭ lzɮ lcʟ mtɯ mlɰ mjɱ ngŋ njɲ n.ɳ ncɴ o-ɵ Oeɶ |1ǀ |2ǁ |-ǂ ffɸ rtɹ rlɺ r.ɻ f.ɽ fhɾ rcʀ riʁ s.ʂ
shʃ j^ʄ t.ʈ u-ʉ hsʊ vsʋ vtʌ wtʍ ytʎ ycʏ z.ʐ zcʑ zhʒ ?gʔ 9eʕ O.ʘ ?-ʡ 9-ʢ idɿ irʅ tsʦ tSʧ bfβ tfθ cfχ
:fː .fˑ hr˞ '1ˈ '2ˌ apʼ ^hʰ ^Hʱ ^jʲ ^wʷ ^Yᶣ ^yʸ ^?ˀ ^9ˁ ^lˡ ^sˢ ^gˠ ^Mᵚ ^Gᶭ ^xˣ ^fᶠ ^nⁿ ^mᵐ ^Nᵑ _u‿
"""

SIGNS = r"""
!d¡ ?d¿ bs\ "l“ "r” 'a' <<« >>» --– +-± .c· dg° c/¢ Lp£ cu¤ eu€ Y=¥ SS§ ||¶ co© re® a_ª o_º FIﬁ FLﬂ tm™ TM™
no¬ xx× :-÷ fdƒ bu• 'p′ "p″ [f[ ]f] |f| At∀ dd∂ Er∃ O|∅ e=∈ su∑ -m− /d∕ Vr√ oc∝ oo∞ an∧ or∨ ni∩ uu∪ in∫ .3∴
=~≅ ~~≈ =/≠ =3≡ <_≤ >_≥ c=⊂ o+⊕ ox⊗ Tt⊥ ..⋯ cl♣ di♦ he♥ sp♠ <-← ^|↑ ->→ _|↓ <>↔ <=⇐ ^#⇑ =>⇒ _#⇓ eq⇔
"""

HEBREW = "?+B+G+D+H+V+Z+X+Y+J+K%K+L+M%M+N%N+S+9+P%P+C%C+Q+R+W+T+"
"""Keys of the letters from alef (U+05D0) on."""

MARKS = {
    "-h": "\u00ad",
    "`^": "\u0300",
    "'^": "\u0301",
    "^^": "\u0302",
    "~^": "\u0303",
    "-^": "\u0304",
    "N^": "\u0306",
    ":^": "\u0308",
    "0^": "\u030a",
    "v^": "\u030c",
    "T(": "\u0318",
    "T)": "\u0319",
    "cn": "\u031a",
    "cv": "\u031c",
    "T^": "\u031d",
    "Tv": "\u031e",
    "+v": "\u031f",
    "-v": "\u0320",
    ":v": "\u0324",
    "0v": "\u0325",
    "|v": "\u0329",
    "Nv": "\u032a",
    "nv": "\u032f",
    "~v": "\u0330",
    "~<": "\u0334",
    "3v": "\u0339",
    "Uv": "\u033a",
    "Dv": "\u033b",
    "li": "\u0361",
}
"""Signs that combine with the letter before them."""


def _accented() -> dict[str, str]:
    letters = ((letter, key, mark) for key, (mark, small) in ACCENTS.items() for letter in small + small.upper())
    return {letter + key: unicodedata.normalize("NFC", letter + mark) for letter, key, mark in letters}


def _hebrew() -> dict[str, str]:
    return {HEBREW[start : start + 2]: chr(0x05D0 + start // 2) for start in range(0, len(HEBREW), 2)}


SYMBOLS = {**_accented(), **{entry[:2]: entry[2] for entry in f"{LETTERS}{SIGNS}".split()}, **_hebrew(), **MARKS}
"""Two characters after a backslash -> what they stand for."""


def decoded_symbols(text: str) -> str:
    r"""Return a text with every special symbol as the character that it stands for; others stay as they are.

    >>> decoded_symbols(r"Stra\sse, gr\o:n, \sw, \qq")
    'Straße, grőn, ə, \\qq'
    """
    return re.sub(r"\\([ -~]{2})", lambda match: SYMBOLS.get(match[1], match[0]), text)
