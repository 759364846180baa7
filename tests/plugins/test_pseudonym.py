"""Pseudonyms: stable, reversible with the key only, and of the shape of what they stand for."""

from __future__ import annotations

import hmac
import itertools
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.leaf import Leaf

KEY = "0123456789abcdef"
HIDE = Leaf("pseudonym_text", key=KEY)
SHOW = Leaf("pseudonym_text", key=KEY, reveal=True)
HIDE_NUMBER = Leaf("pseudonym_number", key=KEY)
SHOW_NUMBER = Leaf("pseudonym_number", key=KEY, reveal=True)
SHORT = {"key": KEY, "allow_short": True}

ASCII = st.text(string.ascii_letters + string.digits + " -./:_+", min_size=6, max_size=60)


def symbols(text: str) -> int:
    return len(re.findall("[0-9A-Za-z]", text))


def shape(text: str) -> str:
    return re.sub("[0-9]", "9", re.sub("[A-Z]", "A", re.sub("[a-z]", "a", text)))


def reference(text: str, key: str, tweak: str) -> str:
    """The same network, written anew from its description."""

    def digest(message: bytes) -> bytes:
        return hmac.digest(key.encode() + b"geomq pseudonym 1\0", message, "sha256")

    places = [i for i, c in enumerate(text) if c.isalnum()]
    first = ["0" if text[i].isdigit() else "a" if text[i].islower() else "A" for i in places]
    radices = [10 if c == "0" else 26 for c in first]
    values = [ord(text[i]) - ord(c) for i, c in zip(places, first, strict=True)]
    pattern = "".join("#" if radix == 10 else "@" for radix in radices)
    form = digest(b"\x01" + digest(tweak.encode()) + pattern.encode())
    middle = len(values) // 2
    for number in range(10):
        changed, other = (values[:middle], values[middle:])[:: 1 if number % 2 == 0 else -1]
        first_block = digest(bytes([2, number]) + form + bytes(other))
        stream = first_block[:30] + b"".join(digest(bytes([3, i]) + first_block)[:30] for i in range(1, 13))
        start = 0 if number % 2 == 0 else middle
        for i in range(len(changed)):
            word = int.from_bytes(stream[3 * i : 3 * i + 3], "big")
            values[start + i] = (values[start + i] + word) % radices[start + i]
    letters = list(text)
    for i, c, value in zip(places, first, values, strict=True):
        letters[i] = chr(ord(c) + value)
    return "".join(letters)


@settings(deadline=None)
@given(ASCII.filter(lambda text: symbols(text) >= 6), st.text(max_size=5))
def test_text_is_hidden_as_described(text: str, tweak: str) -> None:
    for value in (text, text * 4):
        assert Leaf("pseudonym_text", key=KEY, tweak=tweak)(value) == reference(value, KEY, tweak)


@settings(deadline=None)
@given(ASCII.filter(lambda text: symbols(text) >= 6))
def test_text_keeps_its_shape_and_comes_back(text: str) -> None:
    hidden = HIDE(text)
    assert hidden is not None
    assert shape(hidden) == shape(text)
    assert SHOW(hidden) == text
    assert HIDE(text) == hidden


@settings(deadline=None)
@given(st.integers().filter(lambda number: abs(number) >= 100_000))
def test_integer_keeps_its_length_and_comes_back(number: int) -> None:
    hidden = HIDE_NUMBER(str(number))
    assert hidden is not None
    assert str(int(hidden)) == hidden
    assert (len(hidden), hidden[0] == "-") == (len(str(number)), number < 0)
    assert SHOW_NUMBER(hidden) == str(number)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_is_a_permutation_of_all_digits(width: int) -> None:
    every = ["".join(digits).encode() for digits in itertools.product(string.digits, repeat=width)]
    hidden = Leaf("pseudonym_text", **SHORT).mask_all(every)
    assert sorted(filter(None, hidden)) == every
    assert width == 1 or hidden != every
    assert Leaf("pseudonym_text", reveal=True, **SHORT).mask_all([h or b"" for h in hidden]) == every


def test_is_a_permutation_of_mixed_symbols() -> None:
    every = [
        f"{a}-{b}{c}".encode() for a in string.digits for b in string.ascii_lowercase for c in string.digits
    ]
    assert sorted(filter(None, Leaf("pseudonym_text", **SHORT).mask_all(every))) == sorted(every)


def test_is_a_permutation_of_the_integers_of_one_length() -> None:
    every = [str(number).encode() for number in range(1000, 10_000)]
    hidden = Leaf("pseudonym_number", **SHORT).mask_all(every)
    assert sorted(filter(None, hidden)) == every
    assert Leaf("pseudonym_number", reveal=True, **SHORT).mask_all([h or b"" for h in hidden]) == every


def test_key_tweak_and_shape_make_other_pseudonyms() -> None:
    number = "13800138000"
    hidden = [
        HIDE(number),
        Leaf("pseudonym_text", key="0123456789abcdeg")(number),
        Leaf("pseudonym_text", key=KEY + "\0")(number),
        Leaf("pseudonym_text", key=KEY, tweak="phone")(number),
        Leaf("pseudonym_text", key=KEY, tweak="fax")(number),
        (HIDE("x" + number) or "")[1:],
        (Leaf("pseudonym_text", key=KEY, keep_first=3)(number) or ""),
    ]
    assert len({number, *hidden}) == 8
    assert Leaf("pseudonym_text", key="0123456789abcdeg", reveal=True)(hidden[0] or "") != number


def test_punctuation_and_case_make_no_other_pseudonym() -> None:
    plain = HIDE("WDB9066331s123456")
    assert (
        HIDE("WDB 906-633.1S/123456")
        == f"{plain[:3]} {plain[3:6]}-{plain[6:9]}.{plain[9:11].upper()}/{plain[11:]}"
    )
    assert HIDE("wdb9066331s123456") == plain.lower()


def test_one_other_symbol_changes_every_part() -> None:
    first, second = HIDE("4111111111111111"), HIDE("4111111111111112")
    assert first
    assert second
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 8


def test_digits_are_spread_evenly() -> None:
    hidden = HIDE.mask_all([f"{number:08d}".encode() for number in range(2000)])
    counts = [sum((value or b"").count(digit) for value in hidden) for digit in string.digits.encode()]
    assert sum(counts) == 16_000
    assert all(1400 < count < 1800 for count in counts)  # 38 is the standard deviation


@settings(deadline=None)
@given(ASCII.filter(lambda text: symbols(text) >= 11), st.integers(0, 3), st.integers(0, 2))
def test_symbols_at_the_ends_can_be_kept(text: str, first: int, last: int) -> None:
    settings = {"key": KEY, "keep_first": first, "keep_last": last}
    hidden = Leaf("pseudonym_text", **settings)(text)
    assert hidden is not None
    before, after = ([c for c in value if c.isalnum()] for value in (text, hidden))
    assert before[:first] == after[:first]
    assert last == 0 or before[-last:] == after[-last:]
    assert Leaf("pseudonym_text", reveal=True, **settings)(hidden) == text


def test_kept_symbols_have_pseudonyms_of_their_own() -> None:
    keep = Leaf("pseudonym_text", key=KEY, keep_first=3)
    assert (keep("490-12345678") or "")[3:] != (keep("491-12345678") or "")[3:]


@pytest.mark.parametrize(
    "text", ["", "12345", "-----", "a-1-b-2-c", "M\u00fcller 123456", "\u5f20\u4e09 123456", "1" * 257]
)
def test_what_cannot_be_hidden_well_is_refused(text: str) -> None:
    assert HIDE(text) is None


def test_short_values_only_where_allowed() -> None:
    hidden = Leaf("pseudonym_text", **SHORT)("a-1")
    assert hidden is not None
    assert shape(hidden) == "a-9"
    assert Leaf("pseudonym_text", **SHORT)("--") is None


@pytest.mark.parametrize("number", ["1.500000", "1234567e3", "12345", "-12345", "0"])
def test_numbers_that_are_no_long_integers_are_refused(number: str) -> None:
    assert HIDE_NUMBER(number) is None


def test_longest_value_comes_back() -> None:
    text = "a1" * 128
    hidden = HIDE(text)
    assert hidden is not None
    assert len(set(zip(hidden[::2], hidden[1::2], strict=True))) > 40
    assert SHOW(hidden) == text


def test_pseudonyms_of_today_can_be_revealed_tomorrow() -> None:
    """A change of the algorithm would make what is stored worthless."""
    assert HIDE("WDB9066331S123456") == "MST8605493E185462"
    assert HIDE_NUMBER("13800138000") == "26864951095"


@given(st.sampled_from([2**53, 2**63, 2**64]), st.integers(-(10**13), 10**13))
@settings(deadline=None, max_examples=40)
def test_who_can_read_a_number_can_read_its_pseudonym(bound: int, distance: int) -> None:
    number = bound + distance
    hidden = HIDE_NUMBER(str(number))
    assert hidden is not None
    assert len(hidden) == len(str(number))
    assert (int(hidden) < bound) == (number < bound)
    assert SHOW_NUMBER(hidden) == str(number)
