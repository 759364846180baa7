"""Texts and globs searched for in free text, beside Python's regular expressions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.leaf import Leaf

TEXTS = st.text("abAB- \n\u00e9\u4e2d", max_size=30)
GLOBS = st.text("abA- *?\\\u00e9", min_size=1, max_size=8).filter(lambda glob: glob.strip("*"))


def as_regex(glob: str, border: str = r"[^ \t\n\v\f\r]") -> str:
    regex, i = "", 0
    while i < len(glob):
        if glob[i] == "*":
            while glob[i + 1 : i + 2] == "*":
                i += 1
            regex += f"{border}*" + ("?" if i + 1 < len(glob) else "")
        elif glob[i] == "?":
            regex += border
        else:
            if glob[i] == "\\" and i + 1 < len(glob):
                i += 1
            regex += re.escape(glob[i])
        i += 1
    return regex


@settings(deadline=None, max_examples=500)
@given(GLOBS, TEXTS, st.booleans(), st.booleans())
def test_globs_find_what_regular_expressions_find(
    glob: str, text: str, ignore_case: bool, over_spaces: bool
) -> None:
    settings = {"ignore_case": ignore_case, "over_spaces": over_spaces, "with": "<>"}
    flags = re.IGNORECASE if ignore_case else 0
    regex = as_regex(glob, r"[^\n\r]") if over_spaces else as_regex(glob)
    assert Leaf("search", text=glob, glob=True, **settings)(text) == re.sub(regex, "<>", text, flags=flags)


def test_names_of_several_words_between_two_signs() -> None:
    search = Leaf("search", text="OP=*;", glob=True, over_spaces=True, **{"with": "OP=?;"})
    assert search("T=1;OP=Anna Maria;END OP=Ben\nx;") == "T=1;OP=?;END OP=Ben\nx;"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{\\"n\\":\\"\\u5f20\\u4e09\\"}', '{\\"n\\":\\"<>\\"}'),
        ("q=%E5%BC%A0%E4%B8%89&b", "q=<>&b"),
        ("\u5f20\u00ad\u4e09 and \u5f20\u4e09", "<> and <>"),
        ("%", "%"),
        ("\\u5f20 \\u4e09", "\\u5f20 \\u4e09"),
    ],
)
def test_what_is_written_otherwise_is_found(text: str, masked: str) -> None:
    """As `patterns` finds it: in documents of JSON that are a text, in URLs, with signs that have no width."""
    assert Leaf("search", text="\u5f20\u4e09", **{"with": "<>"})(text) == masked


def test_words_stand_alone_behind_an_escape() -> None:
    search = Leaf("search", text="Anna", whole_words=True, **{"with": "<>"})
    assert search("%20Anna%20 a\\nAnna\\nb \uff21\uff4e\uff4e\uff41 nAnna") == "%20<>%20 a\\n<>\\nb <> nAnna"


def test_what_is_searched_for_may_have_a_backslash() -> None:
    assert Leaf("search", text="C:\\new", **{"with": "<>"})("in C:\\new\\x %20") == "in <>\\x %20"
    assert Leaf("search", text="%20", **{"with": "_"})("a%20b") == "a_b"


@settings(deadline=None)
@given(st.text("abAB- *?\\\u00e9", min_size=1, max_size=3), TEXTS, st.booleans(), st.booleans())
def test_texts_are_found_as_they_are(wanted: str, text: str, ignore_case: bool, whole: bool) -> None:
    search = Leaf("search", text=wanted, ignore_case=ignore_case, whole_words=whole, **{"with": ""})
    edge = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
    regex = f"{edge[0]}{re.escape(wanted)}{edge[1]}" if whole else re.escape(wanted)
    assert search(text) == re.sub(regex, "", text, flags=re.IGNORECASE if ignore_case else 0)


@pytest.mark.parametrize(
    ("glob", "text", "masked"),
    [
        ("token=*", "a token=abc, b token=x\ttoken=", "a <> b <>\t<>"),
        ("token=*;", "token=a;user=b;", "<>user=b;"),
        ("*@example.com", "to a.b@example.com, c@example.org", "to <>, c@example.org"),
        ("B-?? ####", "B-MW #### B-M ####", "<> B-M ####"),
        (r"5\*", "5* 55", "<> 55"),
        ("plate * *", "the plate B MW and", "the <> and"),
        ("?", "\u4e2d \u00e9", "<> <>"),
    ],
)
def test_globs_in_free_text(glob: str, text: str, masked: str) -> None:
    assert Leaf("search", text=glob, glob=True, **{"with": "<>"})(text) == masked


@pytest.mark.parametrize("glob", ["a*b", "*b", "a*a*a*a*b", "a* a*b", "?*?*?b", "*a*b*c", "aaaaaaab", "a*a*"])
@pytest.mark.parametrize("text", ["a", "a ", "aa ", "ab"])
def test_time_is_proportional_to_the_length(glob: str, text: str) -> None:
    """The fuel of a message is enough for a text of 40,000 bytes, whatever it is."""
    value = (text * 40_000).encode()[:40_000]
    assert Leaf("search", text=glob, glob=True, **{"with": "x"}).mask_all([value]) is not None


@settings(deadline=None)
@given(st.binary(max_size=40), GLOBS)
def test_any_bytes_are_survived(value: bytes, glob: str) -> None:
    (masked,) = Leaf("search", text=glob, glob=True, **{"with": ""}).mask_all([value])
    assert masked is not None
    assert len(masked) <= len(value)
