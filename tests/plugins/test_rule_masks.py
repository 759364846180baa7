"""The masks patterns, search, pseudonymise, reveal, date and grid in the module that is shipped."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.config import rules as models
from plugins.host.reasons import ModuleRefused
from tests.plugins.rules import Rules

KEY = "00112233445566778899aabbccddeeff"
OTHER_KEY = "ff112233445566778899aabbccddeeff"


def mask(payload: str, action: str, **settings: Any) -> str:
    rules = Rules({"action": action, **settings})
    after = rules.one(payload)
    rules.close()
    assert after is not None
    return after.payload.decode()


# -- patterns and search reach every text inside -----------------------------------------------------------------------


def test_patterns_are_found_in_every_text_and_number_inside() -> None:
    payload = '{"note":"to a@b.de \\u00fc", "card":4111111111111111, "list":[true, null, 1.50, ["10.0.0.1"], "none"]}'
    assert mask(payload, "patterns", path="$") == (
        '{"note":"to *** \u00fc", "card":"***", "list":[true, null, 1.50, ["***"], "none"]}'
    )


def test_only_the_kinds_that_are_named_are_found() -> None:
    assert mask('["a@b.de 10.0.0.1"]', "patterns", path="$", kinds=["ip"]) == '["a@b.de ***"]'


def test_what_is_put_in_place_is_escaped() -> None:
    assert mask('["\\"a@b.de\\""]', "patterns", path="$", **{"with": '\\"\n'}) == '["\\"\\\\\\"\\u000a\\""]'
    assert mask('["a@b.de"]', "patterns", path="$", **{"with": ""}) == '[""]'


def test_patterns_keep_the_last_or_become_hashes() -> None:
    text = '["4111-1111-1111-1111 and 4111 1111 1111 1111"]'
    assert mask(text, "patterns", path="$", keep_last=4) == '["****-****-****-1111 and **** **** **** 1111"]'
    first, second = json.loads(mask(text, "patterns", path="$", key=KEY, length=8))[0].split(" and ")
    assert first == second
    assert len(first) == 8


@pytest.mark.parametrize(
    "number",
    [
        *(
            "13800138000",
            "13800138000.0",
            "1.3800138E10",
            "13800138e+3",
            "4.111111111111111e15",
            "41111111111111110e-1",
        ),
        *("4111111111111111.000", "4111111111111111e0"),
    ],
)
def test_whole_numbers_are_searched_as_digits(number: str) -> None:
    assert mask(f'{{"n":{number},"m":1}}', "patterns", path="$") == '{"n":"***","m":1}'
    last = "8000" if number.startswith("13") or "E10" in number else "1111"
    assert json.loads(mask(f"[{number}]", "patterns", path="$", keep_last=4))[0].endswith(f"**{last}")


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-0.0",
        "0e9",
        "1e400",
        "1e-400",
        "1e40",
        "1e39",
        "5E3",
        "1.5e-3",
        "13800138000.5",
        "0.13800138e1",
        "-1e41",
    ],
)
def test_other_numbers_stay_byte_for_byte(number: str) -> None:
    assert mask(f"[{number}]", "patterns", path="$") == f"[{number}]"


def test_plain_texts_are_searched_as_a_whole() -> None:
    rules = Rules({"action": "patterns"}, {"action": "search", "text": "Ann"}, format="text")
    after = rules.one('Ann, "a@b.de"')
    rules.close()
    assert after is not None
    assert after.payload == b'***, "***"'


def test_search_takes_texts_and_globs() -> None:
    payload = '{"log":"user ANNA, token=abc; user Hannah", "names":["anna"]}'
    settings = {"texts": ["anna", "bob"], "glob": "token=*", "ignore_case": True, "with": "?"}
    assert mask(payload, "search", path="$", **settings) == '{"log":"user ?, ? user H?h", "names":["?"]}'
    words = {"texts": ["anna", "bob"], "ignore_case": True, "whole_words": True}
    assert mask(payload, "search", path="log", **words) == (
        '{"log":"user ***, token=abc; user Hannah", "names":["anna"]}'
    )


def test_what_is_not_found_leaves_every_byte() -> None:
    payload = '{ "a" : "\\u0041\\/", "b" : 1.0e2 }'
    assert mask(payload, "patterns", path="$") == payload
    assert mask(payload, "search", path="$", text="nobody") == payload


# -- pseudonyms ----------------------------------------------------------------------------------------------------


def test_pseudonyms_come_back_with_their_key_only() -> None:
    payload = '{"vin":"WDB9066331S123456","phone":13800138000,"n":-1234567}'
    settings: dict[str, Any] = {"paths": ["vin", "phone", "n"], "tweak": "fleet"}
    hidden = mask(payload, "pseudonymise", key=KEY, **settings)
    values, before = json.loads(hidden), json.loads(payload)
    assert all(values[name] != before[name] for name in before)
    assert (len(values["vin"]), len(str(values["phone"])), len(str(values["n"]))) == (17, 11, 8)
    assert mask(hidden, "reveal", key=KEY, **settings) == payload
    assert mask(hidden, "reveal", key=OTHER_KEY, **settings) != payload
    assert mask(hidden, "reveal", key=KEY, paths=["vin", "phone", "n"]) != payload


def test_the_same_value_has_the_same_pseudonym_everywhere() -> None:
    first = json.loads(mask('["WDB9066331S123456"]', "pseudonymise", path="*", key=KEY))
    second = json.loads(mask('{"x":{"y":"WDB9066331S123456"}}', "pseudonymise", path="x.y", key=KEY))
    assert first == [second["x"]["y"]]


def test_what_has_no_good_pseudonym_is_redacted() -> None:
    payload = '["12345", "M\\u00fcller 12345", 1.5e9, true, null, {"a": "123456789"}, ""]'
    assert json.loads(mask(payload, "pseudonymise", path="*", key=KEY)) == ["***"] * 7
    short = json.loads(mask('["12345"]', "pseudonymise", path="*", key=KEY, allow_short=True))
    assert short[0].isdigit()
    assert len(short[0]) == 5


# -- dates and places --------------------------------------------------------------------------------------------------


def test_dates_are_cut_and_others_redacted() -> None:
    payload = (
        '["2024-05-17T13:45:12.5+02:00", "2024-05-17", 1715953512, 1715953512987, "yesterday", null, {"a":1}]'
    )
    assert json.loads(mask(payload, "date", path="*", to="month")) == [
        "2024-05-01T00:00:00.0+02:00",
        "2024-05-01",
        1714521600,
        1714521600000,
        *["***"] * 3,
    ]


def test_numbers_are_cut_in_the_zone_that_is_set() -> None:
    assert mask("[1715953512]", "date", path="0", to="day", utc_offset="+08:00") == "[1715875200]"
    assert mask("[1715953512]", "date", path="0", to="day", utc_offset="-05:00") == "[1715922000]"


@pytest.mark.parametrize(
    ("payload", "latitude", "longitude", "expected"),
    [
        ('{"lat":52.5163,"lon":13.3777,"v":1.0}', "lat", "lon", '{"lat":52.515,"lon":13.3778,"v":1.0}'),
        ('{"lat":"52.5163","lon":"13.3777"}', "lat", "lon", '{"lat":"52.515","lon":"13.3778"}'),
        ('{"a":{"lat":52.5163},"lon":13.3777}', "a.lat", "lon", '{"a":{"lat":52.515},"lon":13.3778}'),
        ('{"p":[13.3777,52.5163]}', "p.1", "p.0", '{"p":[13.3778,52.515]}'),
        ('[[13.3777,52.5163],[1],[1,2]]', "*.1", "*.0", '[[13.3778,52.515],["***"],[1.0006,2.005]]'),
        ('[{"x":1},{"x":2,"y":1},{"y":1}]', "*.x", "*.y", '[{"x":"***"},{"x":2.005,"y":1.0006},{"y":"***"}]'),
        ('{"lat":52.5163}', "lat", "lon", '{"lat":"***"}'),
        ('{"lon":52.5163}', "lat", "lon", '{"lon":"***"}'),
        ('{"lat":91,"lon":13.3777}', "lat", "lon", '{"lat":"***","lon":"***"}'),
        ('{"lat":"north","lon":13.3777}', "lat", "lon", '{"lat":"***","lon":"***"}'),
        ('{"lat":[1],"lon":13.3777}', "lat", "lon", '{"lat":"***","lon":"***"}'),
        ('{"lat":null,"lon":null}', "lat", "lon", '{"lat":"***","lon":"***"}'),
        ('{"lat":52.515,"lon":13.3778}', "lat", "lon", '{"lat":52.515,"lon":13.3778}'),
        ("{}", "lat", "lon", "{}"),
        ('{"lat":[52.5163,1],"lon":[13.3777]}', "lat.*", "lon.*", '{"lat":["***","***"],"lon":["***"]}'),
    ],
)  # fmt: skip
def test_positions_are_moved_in_pairs(payload: str, latitude: str, longitude: str, expected: str) -> None:
    assert mask(payload, "grid", latitude=latitude, longitude=longitude, degrees=0.01) == expected


# -- other formats -----------------------------------------------------------------------------------------------------

CBOR = (cbor2.dumps, cbor2.loads)
MSGPACK = (msgpack.packb, msgpack.unpackb)


@pytest.mark.parametrize(("name", "dumps", "loads"), [("cbor", *CBOR), ("msgpack", *MSGPACK)])
def test_masks_work_on_binary_formats(name: str, dumps: Any, loads: Any) -> None:
    steps: list[dict[str, Any]] = [
        {"action": "patterns", "path": "note"},
        {"action": "pseudonymise", "path": "ids.*", "key": KEY},
        {"action": "date", "path": "at", "to": "day"},
        {"action": "grid", "latitude": "lat", "longitude": "lon", "degrees": 0.01},
    ]
    ids = [13800138000, 2**64 - 1, 2**63 - 1, -(2**63) + 1, "WDB9066331S123456", b"123456789"]
    before = {"note": "to a@b.de", "ids": ids, "at": 1715953512.5, "lat": 52.5163, "lon": 13.3777, "x": b"\0"}
    rules, back = Rules(*steps, format=name), Rules({**steps[1], "action": "reveal"}, format=name)
    hidden = rules.one(dumps(before))
    assert hidden is not None
    after = loads(hidden.payload)
    assert {**after, "ids": []} == {
        **before,
        "ids": [],
        "note": "to ***",
        "at": 1715904000,
        "lat": 52.515,
        "lon": 13.3778,
    }
    assert [type(one) for one in after["ids"][:5]] == [type(one) for one in ids[:5]]
    assert all(one != other for one, other in zip(after["ids"], ids, strict=True))
    shown = back.one(hidden.payload)
    assert shown is not None
    assert loads(shown.payload)["ids"] == [*ids[:5], "***"]
    rules.close()
    back.close()


# -- mistakes ----------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    *(
        ({"action": action, "path": "a", **found}, mistake)
        for action, found, mistake in [
            (
                "patterns",
                {"kinds": ["ip", "x"]},
                '.kinds[1]: "x" is not one of: card iban phone email ip mac cn_id',
            ),
            (
                "patterns",
                {"kinds": []},
                ".kinds: [] is not a list of some of: card iban phone email ip mac cn_id",
            ),
            (
                "patterns",
                {"kinds": "card"},
                '.kinds: "card" is not a list of some of: card iban phone email ip mac cn_id',
            ),
            ("patterns", {"with": 1}, ".with: 1 is not a text"),
            ("patterns", {"with": "x", "keep_last": 1}, ": with, keep_last and key exclude one another"),
            ("patterns", {"length": 8}, ": length needs a key"),
            ("patterns", {"keep_last": -1}, ".keep_last: -1 is not a whole number from 0 to 100"),
            ("search", {}, ": needs one of text, texts, glob, globs"),
            ("search", {"text": ""}, '.text: "" is not a text'),
            ("search", {"texts": [1]}, ".texts[0]: 1 is not a text"),
            ("search", {"texts": {}}, ".texts: {} is not a list of texts"),
            ("search", {"glob": "**"}, '.glob: "**" stands for everything'),
            ("search", {"text": "x", "texts": ["x"] * 256}, ".texts[255]: is more than is allowed (256)"),
            ("search", {"glob": "a*", "whole_words": True}, ": whole_words goes with text or texts only"),
            ("pseudonymise", {}, ".key: is to be at least 32 hexadecimal digits, or a key_file"),
            ("reveal", {"key": "00" * 15}, ".key: is to be at least 32 hexadecimal digits, or a key_file"),
            ("reveal", {"key": KEY, "keep_last": 257}, ".keep_last: 257 is not a whole number from 0 to 256"),
            ("date", {"to": "week"}, '.to: "week" is not one of: hour day month year'),
            (
                "date",
                {"to": "day", "utc_offset": "local"},
                '.utc_offset: "local" is no offset such as +08:00',
            ),
        ]
    ),
    *(
        ({"action": "grid", **found}, mistake)
        for found, mistake in [
            ({"longitude": "b", "degrees": 1}, ".latitude: is required"),
            ({"latitude": "a", "degrees": 1}, ".longitude: is required"),
            ({"latitude": "a", "longitude": "b"}, ": needs one of degrees and metres"),
            (
                {"latitude": "a", "longitude": "b", "degrees": 1, "metres": 1},
                ": needs one of degrees and metres",
            ),
            (
                {"latitude": "a", "longitude": "b", "degrees": 0},
                ".degrees: 0 is not a number from 0.00001 to 90",
            ),
            (
                {"latitude": "a", "longitude": "b", "metres": 0.5},
                ".metres: 0.5 is not a number from 1 to 5000000",
            ),
            ({"latitude": "a..b", "longitude": "b", "metres": 1}, '.latitude: "a..b" has an empty level'),
        ]
    ),
]


@pytest.mark.parametrize(("step", "mistake"), MISTAKES)
def test_mistakes_of_masks(step: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ModuleRefused) as refused:
        Rules(step)
    assert str(refused.value) == f"steps[0]{mistake}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
VALID: dict[str, dict[str, Any]] = {
    "patterns": {
        "path": "*",
        "kinds": ["card", "phone"],
        "key": KEY,
        "length": 8,
        "with": "x",
        "keep_last": 4,
    },
    "search": {
        "path": "*",
        "texts": ["a"],
        "globs": ["b*"],
        "text": "c",
        "glob": "d?",
        "with": "",
        "ignore_case": True,
    },
    "pseudonymise": {
        "path": "*",
        "key": KEY,
        "tweak": "x",
        "keep_first": 1,
        "keep_last": 2,
        "allow_short": True,
    },
    "reveal": {"path": "*", "key": KEY, "tweak": "x", "keep_first": 1, "keep_last": 2, "allow_short": True},
    "date": {"path": "*", "to": "day", "utc_offset": "+08:00"},
    "grid": {"latitude": "0", "longitude": "1", "degrees": 1, "metres": 1000},
}
PAYLOAD = '["a@b.de 4111111111111111", 1715953512, {"x": "token=abc"}, null, "WDB9066331S123456"]'


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(VALID)), st.data())
def test_settings_are_taken_or_refused_by_the_module_and_the_models_alike(
    action: str, data: st.DataObject
) -> None:
    """Settings that are valid each by itself, some left out, and one that may be anything."""
    names = sorted(VALID[action])
    found = {name: VALID[action][name] for name in data.draw(st.sets(st.sampled_from(names)))}
    if data.draw(st.booleans()):
        found[data.draw(st.sampled_from(names))] = data.draw(VALUES)
    mistakes = models.mistakes({"steps": [{"action": action, **found}]})
    try:
        rules = Rules({"action": action, **found})
    except ModuleRefused as refused:
        mistake = str(refused)
        assert mistake.startswith("steps[0]")
        assert mistakes
    else:
        assert not mistakes
        assert rules.one(PAYLOAD) is not None
        rules.close()
