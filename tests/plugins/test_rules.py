"""The built-in rules, as the module that is shipped: every action, condition and path, and what cannot be read."""

from __future__ import annotations

import hmac
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.builtin import build
from plugins.host.engine import Instance
from plugins.host.frame import PASS, REPLACE, Fields, decode_result, encode_request
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused
from tests.plugins.rules import program

KEY = "00112233445566778899aabbccddeeff"


def apply(config: dict[str, Any], *payloads: str | bytes) -> list[str | None]:
    """What becomes of payloads; None where they are dropped."""
    raw = [payload if isinstance(payload, bytes) else payload.encode() for payload in payloads]
    batch = [Fields(b"t", payload) for payload in raw]
    instance = Instance(program(), json.dumps(config).encode(), Limits(deadline_ms=5000), lambda key: None)
    answer = instance.process(encode_request(batch, 1, 1, 1), len(batch))
    instance.close()
    if answer is None:
        return [payload.decode("utf-8", "surrogateescape") for payload in raw]
    verdicts, changes, _ = decode_result(answer, batch)
    kept = [
        raw[i] if v == PASS else changes[i].payload if v == REPLACE else None for i, v in enumerate(verdicts)
    ]
    return [None if payload is None else payload.decode("utf-8", "surrogateescape") for payload in kept]


def mask(path: str, action: str, **more: Any) -> dict[str, Any]:
    return {"steps": [{"path": path, "action": action, **more}]}


def when(action: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {"steps": [{"action": action, "when": condition}]}


def digest(text: str, length: int = 16) -> str:
    return hmac.new(bytes.fromhex(KEY), text.encode(), "sha256").hexdigest()[:length]


def test_module_is_what_its_sources_make() -> None:
    assert build.is_current(), "run `make plugins`"


@pytest.mark.parametrize(
    ("config", "before", "after"),
    [
        (mask("a", "remove"), '{"a":1}', "{}"),
        (mask("a", "remove"), '{"a":1,"b":2}', '{"b":2}'),
        (mask("a", "remove"), '{"b":2,"a":1}', '{"b":2}'),
        (mask("a", "remove"), '{ "b" : 2 , "a" : 1 , "c" : 3 }', '{ "b" : 2 , "c" : 3 }'),
        (mask("a", "remove"), '{"a":1,"a":2}', "{}"),
        (mask("a", "remove"), '{"a":1,"a":2,"b":3}', '{"b":3}'),
        (mask("*", "remove"), "[1,[2],{}]", "[]"),
        (mask("1", "remove"), "[1,2,3]", "[1,3]"),
        (mask("0", "remove"), '{"0":1,"1":2}', '{"1":2}'),
        (mask("a", "redact"), '{"a":"secret"}', '{"a":"***"}'),
        (mask("a", "redact", **{"with": None}), '{"a":{"b":[1]}}', '{"a":null}'),
        (mask("a", "redact", **{"with": "x\u00e9"}), '{"a":1}', '{"a":"xé"}'),
        (mask("a.b", "redact"), '{"a":{"b":1,"c":2},"b":3}', '{"a":{"b":"***","c":2},"b":3}'),
        (mask("a.*.b", "redact"), '{"a":[{"b":1},{"b":2}]}', '{"a":[{"b":"***"},{"b":"***"}]}'),
        (mask("**.b", "redact"), '{"b":1,"a":[{"b":2}]}', '{"b":"***","a":[{"b":"***"}]}'),
        (
            mask("**.a.**.b", "redact"),
            '{"x":{"a":{"y":{"b":1}}},"b":2}',
            '{"x":{"a":{"y":{"b":"***"}}},"b":2}',
        ),
        (mask("a\\.b", "redact"), '{"a.b":1}', '{"a.b":"***"}'),
        (mask("\\*", "redact"), '{"*":1,"a":2}', '{"*":"***","a":2}'),
        (mask("name", "redact"), '{"n\\u0061me":"x"}', '{"n\\u0061me":"***"}'),
        (mask("é", "redact"), '{"é":1,"\\u00e9":2}', '{"é":"***","\\u00e9":"***"}'),
        (mask("a", "truncate", length=2), '{"a":"h\\u00e9llo"}', '{"a":"hé"}'),
        (mask("a", "truncate", length=1), '{"a":"\\ud83d\\ude00x"}', '{"a":"😀"}'),
        (mask("a", "truncate", length=2), '{"a":"\\ud83d\\"x"}', '{"a":"\\ud83d\\""}'),
        (mask("a", "truncate", length=9), '{"a":"short"}', '{"a":"short"}'),
        (mask("a", "truncate", length=0), '{"a":"x"}', '{"a":""}'),
        (mask("a", "truncate", length=3), '{"a":12345}', '{"a":"***"}'),
        (mask("a", "round", to=0.01), '{"a":52.520008}', '{"a":52.52}'),
        (mask("a", "round", to=0.1), '{"a":-0.05}', '{"a":-0.1}'),
        (mask("a", "round", to=10), '{"a":1234.5}', '{"a":1230}'),
        (mask("a", "round", to=0.25), '{"a":1.1e0}', '{"a":1}'),
        (mask("a", "round", to=1), '{"a":"52.5"}', '{"a":"***"}'),
        (mask("a", "hash", key=KEY), '{"a":"Ana"}', f'{{"a":"{digest("Ana")}"}}'),
        (mask("a", "hash", key=KEY, length=64), '{"a":"\\u0041na"}', f'{{"a":"{digest("Ana", 64)}"}}'),
        (mask("a", "hash", key=KEY), '{"a":12.50}', f'{{"a":"{digest("12.50")}"}}'),
        (mask("a", "hash", key=KEY), '{"a":[1, 2]}', f'{{"a":"{digest("[1, 2]")}"}}'),
        (mask("a", "redact"), '{"b":1}', '{"b":1}'),
        (mask("a", "redact"), "5", "5"),
        (mask("a", "redact"), "", ""),
    ],
)
def test_masks(config: dict[str, Any], before: str, after: str) -> None:
    assert apply(config, before) == [after]


def test_steps_see_what_the_steps_before_left() -> None:
    config = {"steps": [{"path": "a.b", "action": "redact"}, {"path": "**.b", "action": "remove"}]}
    assert apply(config, '{"a":{"b":1},"b":2}') == ['{"a":{}}']
    config = {"steps": [{"path": "a", "action": "redact"}, {"path": "a.b", "action": "remove"}]}
    assert apply(config, '{"a":{"b":1}}') == ['{"a":"***"}']
    config = {"steps": [{"path": "0", "action": "remove"}, {"path": "0", "action": "redact"}]}
    assert apply(config, "[1, 2, 3]") == ['["***", 3]']
    hidden = {"path": "a", "equals": "***"}
    config = {"steps": [{"path": "a", "action": "redact"}, {"action": "drop", "when": hidden}]}
    assert apply(config, '{"a":1}', '{"b":1}') == [None, '{"b":1}']


def test_one_step_has_several_paths_and_a_condition() -> None:
    step = {"action": "redact", "paths": ["a", "c.d"], "when": {"path": "kind", "equals": "x"}}
    before = ['{"kind":"x","a":1,"b":2,"c":{"d":3}}', '{"kind":"y","a":1}']
    assert apply({"steps": [step]}, *before) == ['{"kind":"x","a":"***","b":2,"c":{"d":"***"}}', before[1]]


def test_a_group_has_one_condition_for_its_steps() -> None:
    inside = [{"action": "redact", "path": "kind"}, {"action": "redact", "path": "a"}]
    config = {"steps": [{"when": {"path": "kind", "equals": "x"}, "steps": inside}]}
    before = '{"kind":"y","a":1}'
    assert apply(config, '{"kind":"x","a":1}', before) == ['{"kind":"***","a":"***"}', before]


def test_whole_payload_is_a_value() -> None:
    assert apply(mask("$", "redact"), ' {"a":1}\n', "5", "") == [' "***"\n', '"***"', ""]
    assert apply({"format": "text", **mask("$", "truncate", length=2)}, "héllo") == ["hé"]
    assert apply({"format": "text", "steps": [{"action": "redact"}]}, "héllo", b"\xff") == ["***", None]


@pytest.mark.parametrize(
    ("condition", "meets", "fails"),
    [
        ({"path": "a", "exists": True}, ['{"a":null}'], ["{}", "[]", "5"]),
        ({"path": "a", "exists": False}, ["{}"], ['{"a":0}']),
        ({"path": "a", "equals": 5}, ['{"a":5}', '{"a":5.0}', '{"a":50e-1}'], ['{"a":"5"}', '{"a":6}', "{}"]),
        ({"path": "a", "equals": "x"}, ['{"a":"x"}', '{"a":"\\u0078"}'], ['{"a":"y"}', '{"a":["x"]}']),
        ({"path": "a", "equals": None}, ['{"a":null}'], ['{"a":false}', "{}"]),
        ({"path": "a", "equals": False}, ['{"a":false}'], ['{"a":true}', '{"a":0}']),
        ({"path": "a", "not_equals": 5}, ['{"a":6}', '{"a":"5"}'], ['{"a":5}', "{}"]),
        (
            {"path": "a", "above": 1.5},
            ['{"a":1.50000000000000000001}', '{"a":1e300}'],
            ['{"a":1.5}', '{"a":"9"}'],
        ),
        ({"path": "a", "below": -1}, ['{"a":-2}'], ['{"a":-1}', '{"a":0}', "{}"]),
        (
            {"path": "a", "in": [1, "x", None]},
            ['{"a":1}', '{"a":"x"}', '{"a":null}'],
            ['{"a":2}', '{"a":true}'],
        ),
        ({"path": "*.a", "above": 1}, ['[{"a":0},{"a":2}]'], ['[{"a":0}]', "[]"]),
        (
            {"all": [{"path": "a", "exists": True}, {"path": "b", "exists": True}]},
            ['{"a":1,"b":1}'],
            ['{"a":1}'],
        ),
        ({"any": [{"path": "a", "exists": True}, {"path": "b", "exists": True}]}, ['{"b":1}'], ['{"c":1}']),
        ({"not": {"path": "a", "equals": 1}}, ["{}", '{"a":2}'], ['{"a":1}']),
    ],
)
def test_conditions(condition: dict[str, Any], meets: list[str], fails: list[str]) -> None:
    assert apply(when("drop", condition), *meets) == [None] * len(meets)
    assert apply(when("drop", condition), *fails) == fails
    assert apply(when("keep", condition), *meets) == meets
    assert apply(when("keep", condition), *fails) == [None] * len(fails)


DEEP = "[" * 65 + "]" * 65
BROKEN = [
    "{",
    '{"a":1',
    "nul",
    '{"a":1}x',
    '{"a":01}',
    '{"a":"\x01"}',
    "{'a':1}",
    b"\xff",
    '{"a":"\\x"}',
    DEEP,
    "[1,]",
]


def test_what_cannot_be_read_fails_closed() -> None:
    for config in (mask("a", "redact"), when("keep", {"path": "a", "equals": 5})):
        assert apply(config, *BROKEN) == [None] * len(BROKEN)
        kept = apply({**config, "on_undecodable": "pass"}, *BROKEN)
        assert kept == [
            text if isinstance(text, str) else text.decode("utf-8", "surrogateescape") for text in BROKEN
        ]
    assert apply({}, *BROKEN[:3]) == BROKEN[:3]


def test_empty_payload_passes_for_it_deletes_retained_messages() -> None:
    assert apply(when("keep", {"path": "a", "exists": True}), "") == [""]
    assert apply(mask("a", "redact"), "") == [""]
    assert apply({"steps": [{"action": "drop"}]}, "") == [None]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steps": {}}, "steps: {} is not a list"),
    ({"steps": [5]}, "steps[0]: 5 is not an object"),
    ({"step": []}, "step is not a key; allowed: format on_undecodable utc_offset steps"),
    ({"format": "xml"}, 'format: "xml" is not one of: json cbor msgpack text auto'),
    (mask("a", "foo"), 'steps[0].action: "foo" is not one of: drop keep sample'),
    ({"steps": [{"path": "a"}]}, "steps[0].action: is to be one of: drop keep sample"),
    (mask("", "redact"), 'steps[0].path: "" is not a path'),
    (mask("a..b", "redact"), 'steps[0].path: "a..b" has an empty level'),
    (mask("a.", "redact"), 'steps[0].path: "a." has an empty level'),
    (mask("a.**", "redact"), 'steps[0].path: "a.**" must not end with **'),
    (mask("a", "redact", paths=["b"]), "steps[0]: has both path and paths"),
    ({"steps": [{"action": "redact", "paths": ["b", 5]}]}, "steps[0].paths[1]: 5 is not a path"),
    (mask(".".join("a" * 31), "redact"), 'steps[0].path: "a.a.a.a'),
    (
        mask("a", "redact", length=5),
        "steps[0]: length is not a key; allowed: when action path paths with",
    ),
    (mask("$", "remove"), "steps[0]: cannot remove the whole payload"),
    (mask("a", "hash"), "steps[0].key: is to be at least 16 hexadecimal digits"),
    (mask("a", "hash", key="xyz"), "steps[0].key: is to be at least 16"),
    (mask("a", "hash", key=KEY, length=65), "steps[0].length: 65 is not a whole number from 4 to 64"),
    (mask("a", "truncate"), "steps[0].length: is required"),
    (mask("a", "round", to=0), "steps[0].to: 0 is not a step"),
    (mask("a", "redact", **{"with": [1]}), "steps[0].with: [1] is not a scalar"),
    ({"steps": [{"action": "redact"}]}, "steps[0].path: is not a path"),
    ({"steps": [{"action": "keep"}]}, "steps[0].when: is required"),
    ({"steps": [{"steps": [{"action": "drop", "to": 1}]}]}, "steps[0].steps[0]: to is not a key"),
    (when("drop", {"path": "a"}), "steps[0].when: needs one of: exists equals"),
    (when("drop", {}), "steps[0].when: needs one of: path topic"),
    (when("drop", {"path": "a", "equals": 1, "above": 2}), "steps[0].when: has more than one comparison"),
    (when("drop", {"path": "a", "topic": "b"}), "steps[0].when: is about more than one thing"),
    (when("drop", {"path": "a", "above": "x"}), 'steps[0].when.above: "x" is not a number'),
    (when("drop", {"path": "a", "exists": 1}), "steps[0].when.exists: 1 is neither true nor false"),
    (when("keep", {"any": []}), "steps[0].when.any: [] is not a list of conditions"),
    (
        when("keep", {"all": [{"not": {"path": "a", "in": [[]]}}]}),
        "steps[0].when.all[0].not.in[0]: [] is not a scalar",
    ),
    (when("drop", {"topic": "a/#/b"}), 'steps[0].when.topic: "a/#/b" is not a topic filter'),
    (when("drop", {"topic": ["a", "b+"]}), 'steps[0].when.topic[1]: "b+" is not a topic filter'),
    (when("drop", {"qos": 3}), "steps[0].when.qos: 3 is not one of 0, 1, 2"),
    ({"on_undecodable": "maybe"}, 'on_undecodable: "maybe" is not one of: drop pass'),
]
MISTAKES = [config for config, _ in REFUSED]


@pytest.mark.parametrize(("config", "words"), REFUSED)
def test_mistakes_in_the_configuration(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModuleRefused, match=f"^{re.escape(words)}"):
        apply(config)


# -- against a model in Python ------------------------------------------------------------------------------

SECRET = "Secret-Person"
NAMES = st.sampled_from(["a", "b", "name", "0", "1", "é"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.sampled_from([SECRET, "x", "é\n"]))
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
PATHS = st.lists(st.sampled_from(["a", "b", "name", "0", "*", "**"]), min_size=1, max_size=4).filter(
    lambda levels: levels[-1] != "**"
)


def expected(value: Any, paths: list[list[str]]) -> Any:
    """What redacting these paths makes of a document."""
    if isinstance(value, dict):
        return {key: one(inner, key, paths) for key, inner in value.items()}
    if isinstance(value, list):
        return [one(inner, str(index), paths) for index, inner in enumerate(value)]
    return value


def one(value: Any, key: str, paths: list[list[str]]) -> Any:
    following: list[list[str]] = []
    for path in paths:
        skipped = path
        while skipped[0] == "**":
            if path not in following:
                following.append(path)
            skipped = skipped[1:]
        if skipped[0] in ("*", key):
            following.append(skipped[1:])
        if skipped is not path:
            following.append(skipped if skipped[0] == "**" else path)
    if [] in following:
        return "***"
    return expected(value, following)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, PATHS, st.booleans())
def test_redaction_agrees_with_the_model(document: Any, levels: list[str], plain: bool) -> None:
    before = json.dumps(document, ensure_ascii=plain)
    (after,) = apply(mask(".".join(levels), "redact"), before)
    assert after is not None
    assert json.loads(after) == expected(document, [levels])


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.sampled_from(["remove", "redact", "hash", "truncate", "round"]))
def test_no_secret_is_left_under_a_masked_name(document: Any, action: str) -> None:
    more = {"hash": {"key": KEY}, "truncate": {"length": 3}, "round": {"to": 1}}.get(action, {})
    (after,) = apply(mask("**.name", action, **more), json.dumps({"name": document, "x": {"name": SECRET}}))
    assert after is not None
    assert SECRET not in after
    json.loads(after)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0d8e1 ', max_size=40).map(str.encode))
def test_random_bytes_are_json_or_dropped(payload: bytes) -> None:
    (after,) = apply(mask("**.a", "redact"), payload)
    if after is not None and payload:
        json.loads(payload)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=8, max_size=100),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200),
)
def test_hash_is_hmac(key: bytes, text: str) -> None:
    (after,) = apply(mask("a", "hash", key=key.hex(), length=64), json.dumps({"a": text}))
    assert after is not None
    assert json.loads(after)["a"] == hmac.new(key, text.encode(), "sha256").hexdigest()
