"""What is recognised inside texts, beside references in Python: Luhn, remainder by 97, GB 11643, ipaddress."""

from __future__ import annotations

import hmac
import ipaddress
import re
import string
from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.leaf import Leaf

KINDS = {"card": 1, "iban": 2, "phone": 4, "email": 8, "ip": 16, "mac": 32, "cn_id": 64}
FIND = {kind: Leaf("patterns", kinds=bit, **{"with": "<>"}) for kind, bit in KINDS.items()}
ALL = Leaf("patterns", kinds=127, **{"with": "<>"})
DIGITS = string.digits
AROUND = st.sampled_from(
    [("", ""), ("is ", "."), ("(", ")"), ("\u53f7\u7801", "\u3002"), ("=", ";"), ("x: ", ", y")]
)


def found(kind: str, text: str) -> bool:
    """Whether all of the text is found, wherever it stands."""
    whole = [
        FIND[kind](f"{before}{text}{after}") == f"{before}<>{after}"
        for before, after in (("", ""), ("to ", ", x"))
    ]
    assert whole[0] == whole[1]
    return whole[0]


# -- payment cards -----------------------------------------------------------------------------------------------


def luhn(digits: str) -> bool:
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


def with_check(digits: str) -> str:
    return next(digits + check for check in DIGITS if luhn(digits + check))


ISSUED = st.sampled_from(
    (  # noqa: SIM905 - easier to read than a list
        "4:16 4:13 4:19 51:16 55:16 2221:16 2720:16 34:15 37:15 300:14 3095:14 36:14 38:16 3528:16 3589:16 6011:16 "
        "65:16 62:16 62:19 81:16 2200:16 9792:16 5018:12 6759:19 6390:13"
    ).split()
)


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, length = draw(ISSUED).split(":")
    rest = int(length) - len(prefix) - 1
    return with_check(prefix + draw(st.text(DIGITS, min_size=rest, max_size=rest)))


@settings(deadline=None)
@given(cards(), st.sampled_from(" -"))
def test_cards_are_found_in_groups_or_without(card: str, gap: str) -> None:
    assert found("card", card)
    assert found("card", gap.join(re.findall(".{1,4}", card)))
    assert found("card", gap.join([card[:4], card[4:10], card[10:]]))


@settings(deadline=None)
@given(st.text(DIGITS, min_size=12, max_size=19))
def test_only_numbers_with_luhns_digit_are_cards(digits: str) -> None:
    assert luhn(digits) or not found("card", digits)


@settings(deadline=None)
@given(cards(), st.data())
def test_a_wrong_digit_makes_no_card(card: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(card) - 1))
    other = data.draw(st.sampled_from([digit for digit in DIGITS if digit != card[place]]))
    assert not found("card", card[:place] + other + card[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "1234567890123452",  # no issuer
        "41111111111111111",  # no length of its issuer
        "411111111111111",
        "4111 1111-1111 1111",
        "4111  1111  1111  1111",
        "41 11 11 11 11 11 11 11",
        "0.4111111111111111",
        "4111111111111111a",
        "94111111111111111",
        "411111111111111100000000",
    ],
)
def test_what_is_no_card(text: str) -> None:
    assert FIND["card"](text) == text


# -- IBAN --------------------------------------------------------------------------------------------------------

IBANS = (  # noqa: SIM905 - easier to read than a list
    "GB82WEST12345698765432 DE89370400440532013000 FR1420041010050500013M02606 NL91ABNA0417164300 NO9386011117947 "
    "MT84MALT011000012345MTLCAST001S CH9300762011623852957 SA0380000000608010167519 LC55HEMM000100010012001200023015 "
    "BE68539007547034 PL61109010140000071219812874 ES9121000418450200051332 AT611904300234573201 XK051212012345678906"
).split()


def remainder(iban: str) -> int:
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97


@pytest.mark.parametrize("iban", IBANS)
def test_ibans_are_found_however_they_are_written(iban: str) -> None:
    assert remainder(iban) == 1
    assert found("iban", iban)
    assert found("iban", iban.lower())
    assert found("iban", " ".join(re.findall(".{1,4}", iban)))
    assert found("iban", "-".join(re.findall(".{1,4}", iban)))


@settings(deadline=None)
@given(
    st.sampled_from(IBANS),
    st.integers(2, 98),
    st.text(string.ascii_uppercase + DIGITS, min_size=30, max_size=30),
)
def test_only_ibans_with_remainder_1_are_found(iban: str, check: int, account: str) -> None:
    text = f"{iban[:2]}{check:02d}{account[: len(iban) - 4]}"
    assert found("iban", text) == (remainder(text) == 1)


@settings(deadline=None)
@given(st.sampled_from(IBANS), st.text(string.ascii_uppercase + DIGITS, min_size=30, max_size=30))
def test_ibans_of_any_account_are_found(iban: str, account: str) -> None:
    account = account[: len(iban) - 4]
    check = 98 - remainder(f"{iban[:2]}00{account}")
    assert found("iban", f"{iban[:2]}{check:02d}{account}")


@pytest.mark.parametrize(
    "text", ["XX82WEST12345698765432", "GB82WEST123456987654321", "1GB82WEST12345698765432", "GB82"]
)
def test_what_is_no_iban(text: str) -> None:
    assert FIND["iban"](text) == text


def test_the_name_before_an_iban_may_be_glued_to_it() -> None:
    for iban in ("DE89370400440532013000", "gb82 WEST 1234 5698 7654 32"):
        assert FIND["iban"](f"IBAN{iban}, x{iban}; a_{iban}_b") == "IBAN<>, x<>; a_<>_b"


# -- signs that mean the same ------------------------------------------------------------------------------------

WIDE = {ord(sign): ord(sign) + 0xFEE0 for sign in map(chr, range(0x21, 0x7F))}
ARABIC = {ord(digit): 0x660 + int(digit) for digit in DIGITS}
EXAMPLES = {
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "phone": "+49 (30) 123-4567",
    "email": "anna.m@example.com",
    "ip": "10.0.0.1",
    "mac": "00-11-22-33-44-55",
    "cn_id": "11010519491231002X",
}


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize(
    "fold", [lambda text: text.translate(WIDE), lambda text: text.translate(ARABIC)], ids=["wide", "arabic"]
)
def test_other_digits_and_signs_of_full_width_are_found(kind: str, fold: Callable[[str], str]) -> None:
    assert found(kind, fold(EXAMPLES[kind]))
    assert ALL(f"\u7535\u8bdd\uff1a{fold(EXAMPLES[kind])}\u3002") == "\u7535\u8bdd\uff1a<>\u3002"


@pytest.mark.parametrize("kind", ["card", "iban", "phone"])
@pytest.mark.parametrize("space", "\u00a0\u2003\u2009\u202f\u3000")
def test_the_spaces_of_typography_are_found(kind: str, space: str) -> None:
    assert found(kind, EXAMPLES[kind].replace(" ", space))


@pytest.mark.parametrize("kind", ["card", "iban", "phone", "mac"])
@pytest.mark.parametrize("dash", "\u2010\u2011\u2013\u2014\u2212\uff0d")
def test_the_dashes_of_typography_are_found(kind: str, dash: str) -> None:
    text = (
        EXAMPLES[kind].replace(" ", dash) if kind in ("card", "iban") else EXAMPLES[kind].replace("-", dash)
    )
    assert found(kind, text)


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("sign", "\u00ad\u200b\u200d\u2060\u202a\u2066\ufeff")
def test_what_has_no_width_hides_nothing(kind: str, sign: str) -> None:
    text = EXAMPLES[kind]
    assert FIND[kind](f"is {sign.join(text)} here") == "is <> here"
    assert FIND[kind](f"{sign}a {text}{sign} b{sign}") in (f"{sign}a <> b{sign}", f"{sign}a <>{sign} b{sign}")


@settings(deadline=None)
@given(st.text("a1 -\u00a0\u200b\uff11\uff21\u0661\u00fc\u4e2d\U0001f600\u2013", max_size=30))
def test_what_is_not_found_stays_byte_for_byte(text: str) -> None:
    assert FIND["email"](text) == text
    assert FIND["email"](f"{text} a\uff20b.de {text}") == f"{text} <> {text}"


def test_equal_values_have_equal_hashes_in_any_signs() -> None:
    hashed = Leaf("patterns", kinds=127, key="secret", count=16)
    for text in EXAMPLES.values():
        assert re.fullmatch("[0-9a-f]{16}", hashed(text) or "")
        assert hashed(text) == hashed(text.translate(WIDE))
    starred = Leaf("patterns", kinds=127, count=4)
    assert starred("\uff14111\u00a01111\u00a01111\u00a01111") == "**** **** **** 1111"


# -- resident identity numbers of China -----------------------------------------------------------------------------


def gb11643(digits: str) -> str:
    """The check character: weights 2^(18-i) modulo 11 (ISO 7064, MOD 11-2)."""
    total = sum(int(digit) * pow(2, 17 - i, 11) for i, digit in enumerate(digits))
    return "0123456789X"[(12 - total % 11) % 11]


@st.composite
def identities(draw: st.DrawFn) -> str:
    area = draw(st.sampled_from(["110105", "440308", "500101", "659001", "710000", "820000", "310115"]))
    born = draw(st.dates(date(1880, 1, 1), date(2090, 1, 1)))
    digits = f"{area}{born:%Y%m%d}{draw(st.integers(0, 999)):03d}"
    return digits + gb11643(digits)


@settings(deadline=None)
@given(identities())
def test_identity_numbers_are_found(number: str) -> None:
    assert found("cn_id", number)
    assert found("cn_id", number.lower())
    assert found("cn_id", f"{number[:6]} {number[6:14]} {number[14:]}")
    assert FIND["cn_id"](f"\u8eab\u4efd\u8bc1{number}\u3002") == "\u8eab\u4efd\u8bc1<>\u3002"


@settings(deadline=None)
@given(identities(), st.integers(0, 16), st.sampled_from(DIGITS))
def test_a_wrong_digit_makes_no_identity_number(number: str, place: int, digit: str) -> None:
    changed = number[:place] + digit + number[place + 1 :]
    assert found("cn_id", changed) == (changed == number)


@pytest.mark.parametrize(
    "digits", ["11010519491331002", "11010520230229002", "99010519491231002", "11010521491231002"]
)
def test_dates_and_provinces_are_checked(digits: str) -> None:
    assert not found("cn_id", digits + gb11643(digits))


# -- addresses ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.ip_addresses(v=4), AROUND)
def test_ip4_is_found(address: ipaddress.IPv4Address, around: tuple[str, str]) -> None:
    assert FIND["ip"](f"{around[0]}{address}{around[1]}") == f"{around[0]}<>{around[1]}"


@pytest.mark.parametrize("text", ["192.168.000.001", "010.000.000.007", "10.0.00.1", "01.2.3.4"])
def test_ip4_may_have_octets_of_three_digits(text: str) -> None:
    """As legacy systems write them; one with two digits is a date or a version."""
    assert found("ip", text) == (".00." not in text and not text.startswith("01."))


@settings(deadline=None)
@given(st.ip_addresses(v=6), AROUND)
def test_ip6_is_found(address: ipaddress.IPv6Address, around: tuple[str, str]) -> None:
    for text in (str(address), address.exploded, str(address).upper()):
        assert text == "::" or FIND["ip"](f"{around[0]}{text}{around[1]}") == f"{around[0]}<>{around[1]}"


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text != "::"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["1", "25", "256", "0", "fe80", "12345", ".", ".", ":", ":", "::"]), max_size=17
    ).map("".join)
)
def test_ip_is_found_as_python_does(text: str) -> None:
    assert found("ip", text) == is_ip(text)


@pytest.mark.parametrize(
    "text",
    [
        "v1.2.3.4",
        "0192.168.0.1",
        "1.2.3.4.5",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.400",
        "12:30:45",
        "std::dead",
        "::",
    ],
)
def test_what_is_no_ip(text: str) -> None:
    assert FIND["ip"](text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("from 10.0.0.1:1883 to 10.0.0.2/24.", "from <>:1883 to <>/24."),
        ("10.0.0.1-10.0.0.5", "<>-<>"),
        ("[fe80::1%eth0]:80", "[<>%eth0]:80"),
        ("ip:10.0.0.1,addr:fe80::1: up", "ip:<>,addr:<>: up"),
        ("http://[2001:db8::7]/", "http://[<>]/"),
        ("::ffff:192.0.2.128", "<>"),
    ],
)
def test_ip_inside_texts(text: str, masked: str) -> None:
    assert FIND["ip"](text) == masked


@settings(deadline=None)
@given(st.binary(min_size=6, max_size=8).filter(lambda raw: len(raw) != 7), st.sampled_from(":-"), AROUND)
def test_mac_is_found(raw: bytes, separator: str, around: tuple[str, str]) -> None:
    for text in (raw.hex(separator), raw.hex(separator).upper(), raw.hex(".", 2)):
        assert FIND["mac"](f"{around[0]}{text}{around[1]}") == f"{around[0]}<>{around[1]}"


@pytest.mark.parametrize(
    "text",
    [
        "00:11:22:33:44",
        "00:11:22:33:44:55:66",
        "00:11-22:33:44:55",
        "001122334455",
        "00:11:22:33:44:5g",
        "2024-01-15",
    ],
)
def test_what_is_no_mac(text: str) -> None:
    assert FIND["mac"](text) == text


def test_mac_behind_its_name() -> None:
    assert FIND["mac"]("mac:00:11:22:33:44:55, up") == "mac:<>, up"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a@b.de", "<>"),
        ("write to John.O'Neil+x@mail.example.co.uk.", "write to <>."),
        ("<a@b.de>, 'c@d.fr'; mailto:e@f.it", "<<>>, '<>'; mailto:<>"),
        ("user=a_b%c@x-y.example&z=1", "user=<>&z=1"),
        ("m\u00fcller@b\u00fccher.example", "<>"),
        ("\u90ae\u7bb1zhang@example.com\u8c22\u8c22", "\u90ae\u7bb1<>\u8c22\u8c22"),
        ("\u90ae\u7bb1\uff1a\u7528\u6237@\u4f8b\u5b50.\u4e2d\u56fd\u3002", "\u90ae\u7bb1\uff1a<>\u3002"),
        ("13812345678@qq.com", "<>"),
        ("a@b.com.1 a@b.c.x", "<>.1 a@b.c.x"),
        ("..a@b.de", "..<>"),
    ],
)
def test_email_is_found(text: str, masked: str) -> None:
    assert FIND["email"](text) == masked
    assert ALL(text) == masked


@pytest.mark.parametrize(
    "text", ["@", "a@", "@b.de", "a@b", "a@b.1", "a @b.de", "a@ b.de", "...@b.de", "a@@b.de", "a@.de"]
)
def test_what_is_no_email(text: str) -> None:
    assert FIND["email"](text) == text


# -- telephone numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *[
            "+4930123456",
            "+49 30 123456",
            "+49 (0)30 123456",
            "+49 (30) 123-456",
            "+44 (0) 20 7946 0958",
            "+8613800138000",
        ],
        *["+1 (415) 555-2671", "+1-415-555-2671", "+1.4155552671", "+86 138 0013 8000", "+33 1 23 45 67 89"],
        *[
            "0049 30 123456",
            "00 44 20 7946 0958",
            "030 1234567",
            "030-1234567",
            "030/123 45 67",
            "0171 / 1234567",
        ],
        *[
            "(030) 1234567",
            "(415) 555-2671",
            "(0755) 2345 6789",
            "415-555-2671",
            "415.555.2671",
            "415 555 2671",
        ],
        *[
            "1-800-555-0100",
            "1 415 555 2671",
            "020 7946 0958",
            "02 9374 4000",
            "03-1234-5678",
            "01 23 45 67 89",
        ],
        *[
            "01.23.45.67.89",
            "06-12345678",
            "010-12345678",
            "0755-12345678",
            "400-810-8888",
            "13800138000",
            "138 0013 8000",
        ],
        *["138-0013-8000", "09 123 4567"],
    ],
)
def test_telephone_numbers_are_found(text: str) -> None:
    assert found("phone", text)
    assert FIND["phone"](f"\u7535\u8bdd{text}\u3002") == "\u7535\u8bdd<>\u3002"


@pytest.mark.parametrize(
    "text",
    [
        *[
            "0123456789",
            "1234567890",
            "12345678901",
            "1715953512",
            "1715953512987",
            "4111111111111111",
            "138001380001",
        ],
        *[
            "2024-05-17",
            "17.05.2024",
            "05.11.2023 10:15",
            "05/11/2023",
            "05.11.23 10.15",
            "2024-05-17 10:00:00",
        ],
        *[
            "10.0.0.1",
            "192.168.100.200",
            "1.2.3.4",
            "0.123456789",
            "-0.1234567890",
            "+12.345678",
            "+52.516312",
            "3.14159265",
        ],
        *[
            "550e8400-e29b-41d4-a716-446655440000",
            "415-555-26712",
            "415-555-267",
            "+1234567",
            "+0123456789",
            "E+123456789",
        ],
        *[
            "12 345 678",
            "1,234,567,890",
            "10:20:30",
            "(5) 123456789",
            "100 200 300",
            "0x0123-456789",
            "v030-1234567",
        ],
        *["115-555-2671", "file_0123-456789", "0123-4567-89ab", "50.123456789"],
    ],
)
def test_plain_numbers_are_no_telephone_numbers(text: str) -> None:
    assert FIND["phone"](f"at {text}, then") == f"at {text}, then"


@pytest.mark.parametrize("number", ["13800138000", "8613800138000", "013800138000", "+4930123456789"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        *[
            ("17,", ",21.5"),
            ("17;", ";x"),
            ("17\uff0c", "\uff0c21"),
            ("id:", ":1"),
            ("1/", "/x"),
            ("a=", "&b=1"),
        ],
        *[("No.", "."), ("SN-", "_7"), ("a_", "-a"), ("1-", "/x"), ("x|", "|y"), ("[", "]"), ("a:1+", ",+1")],
    ],
)
def test_numbers_that_can_be_nothing_else_are_found_between_any_signs(
    number: str, before: str, after: str
) -> None:
    """A line of CSV has no spaces, and an address of mail may begin with a number."""
    if not (before.endswith("+") and number.startswith("+")):
        assert FIND["phone"](f"{before}{number}{after}") == f"{before}<>{after}"
    assert FIND["phone"](f"{number}@home") == "<>@home"


def test_plain_numbers_of_the_world_are_found_by_two_zeros() -> None:
    assert found("phone", "0049301234567")
    for other in ("000049301234", "00493012345", "004930123456789012", "00", "00 "):
        assert FIND["phone"](other) == other


@pytest.mark.parametrize(
    "text",
    ["0.13800138000", "13800138000.25", "x13800138000", "0x13800138000", "12800138000", "113800138000"],
)
def test_numbers_that_go_on_are_no_mobile_numbers(text: str) -> None:
    assert FIND["phone"](text) == text


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(sign):04x}" for sign in text)


@pytest.mark.parametrize("escape", [percent, escaped])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_escaped_is_found(kind: str, escape: Callable[[str], str]) -> None:
    """URLs, and documents of JSON as a text in one."""
    example = EXAMPLES[kind]
    assert FIND[kind](escape(example)) == "<>"
    assert FIND[kind](f"{escape(' ')}{example}{escape(' ')}") == f"{escape(' ')}<>{escape(' ')}"
    assert (
        FIND[kind](f"{escape(chr(0x8BDD))}{example}{escape(',')}x")
        == f"{escape(chr(0x8BDD))}<>{escape(',')}x"
    )
    assert FIND[kind](f"a\\n{example}\\nb") == "a\\n<>\\nb"
    assert FIND[kind](f'{{\\"a\\":\\"{example}\\"}}') == '{\\"a\\":\\"<>\\"}'


@pytest.mark.parametrize(
    "text", ["%", "%2", "%zz", "\\", "\\u12", "\\ud83d\\ude00", "100%25 \\x \\u00e9%C3%A9", "\\u200b"]
)
def test_other_escapes_stay_as_they_are(text: str) -> None:
    assert ALL(text) == text
    assert ALL(f"{text} 4111111111111111 {text}") == f"{text} <> {text}"


def test_telephone_numbers_inside_texts() -> None:
    assert (
        FIND["phone"]("Tel.:+49 30 123456, Fax:(030)1234567; tel:030-7654321 ext 5")
        == "Tel.:<>, Fax:<>; tel:<> ext 5"
    )


# -- what is put in place ------------------------------------------------------------------------------------------


def test_all_kinds_in_one_text() -> None:
    text = (
        "card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, a@b.de from 10.0.0.1 (00:11:22:33:44:55)"
    )
    assert ALL(text) == "card <>, IBAN <>, <> from <> (<>)"
    assert ALL("4111111111111111") == "<>"
    assert ALL("nothing to see here: 12 of 34, at 10:15") == "nothing to see here: 12 of 34, at 10:15"


@pytest.mark.parametrize(
    ("text", "count", "masked"),
    [
        ("4111 1111-1111 1111 4111-1111-1111-1111", 4, "4111 1111-1111 1111 ****-****-****-1111"),
        ("+49 (0)30 123456", 4, "+** (*)** **3456"),
        ("a@b.de", 9, "*@*.de"),
        ("m\u00fcller@b\u00fccher.example", 2, "******@******.*****le"),
        ("m\u00fcl@b\u00fc.de", 5, "***@*\u00fc.de"),
        ("10.0.0.1", 0, "**.*.*.*"),
    ],
)
def test_stars_keep_the_last_and_punctuation(text: str, count: int, masked: str) -> None:
    assert Leaf("patterns", kinds=127, count=count)(text) == masked


def test_hash_is_the_same_however_a_number_is_written() -> None:
    key = "sixteen bytes or"
    mask = Leaf("patterns", kinds=127, key=key, count=12)

    def digest(text: str) -> str:
        return hmac.new(key.encode(), text.encode(), "sha256").hexdigest()[:12]

    card = digest("4111111111111111")
    assert mask("4111 1111 1111 1111, 4111111111111111") == f"{card}, {card}"
    assert mask("A@b.de") == digest("a@b.de")
    assert mask("10.0.0.1") == digest("10.0.0.1")
    assert mask("00-AA-BB-CC-DD-EE") == digest("00aabbccddee")


@settings(deadline=None)
@given(st.text("0123456789abcdefAF@.:-+() \u00fc\u4e2d_/%\\u", max_size=80), st.integers(0, 127))
def test_any_text_is_survived(text: str, kinds: int) -> None:
    masked = Leaf("patterns", kinds=kinds, **{"with": ""})(text)
    assert masked is not None
    assert len(masked) <= len(text)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_survived(value: bytes) -> None:
    (masked,) = Leaf("patterns", kinds=127, count=2).mask_all([value])
    assert masked is not None
    assert len(masked) <= len(value)


@pytest.mark.parametrize(
    "text", ["1 ", "1234 ", "a@", "a:", "::", "aa:", "a.", "0-", "(0) ", "a@b.", "\u4e2d@", "DE89 "]
)
def test_time_is_proportional_to_the_length(text: str) -> None:
    """The fuel of a message is enough for a text of 20,000 bytes, whatever it is."""
    value = (text * 20_000).encode()[:20_000]
    assert ALL.mask_all([value]) is not None
