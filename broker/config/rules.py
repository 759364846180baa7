"""The built-in rules' configuration: what stands under `config` of a rule whose module is `rules` (docs/rules.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from broker.config import rule_values as terms
from broker.config.base import Section, TopicName
from broker.config.rule_conditions import Condition, Part

_Model = TypeVar("_Model", bound=BaseModel)
Functions = Literal["count", "min", "max", "mean", "last", "sum"]
Property = Literal[
    "payload_format_indicator", "content_type", "response_topic", "correlation_data", "user_property"
]
Kind = Literal["card", "iban", "cn_id", "phone", "email", "ip", "mac"]
Keys = Annotated[int | None, Field(None, ge=1, le=65536, description="How many keys it remembers.")]
By = Annotated[
    list[terms.Part] | None,
    Field(None, max_length=16, description="What it tells apart: `topic`, `client`, `user`, paths."),
]

_MOST_WANTED = 256


class Step(Part):
    """What all steps have."""

    when: Condition | None = Field(None, description="For which messages. Default: for all.")


class Drop(Step):
    """Drop the message."""

    action: Literal["drop"]


class Keep(Step):
    """Drop the message unless `when` holds."""

    action: Literal["keep"]
    when: Condition


class Sample(Step):
    """Let some messages through: one in N, or one in a time."""

    action: Literal["sample"]
    one_in: int | None = Field(None, ge=1, le=1_000_000_000)
    every: terms.Lapse = None
    by: By
    keys: Keys

    @model_validator(mode="after")
    def _check(self) -> Sample:
        return _one_of(self, "one_in", "every")


class Deadband(Step):
    """Drop messages whose number has hardly changed since the last one that passed."""

    action: Literal["deadband"]
    path: terms.Path
    change: terms.Positive = None
    percent: terms.Positive = None
    at_most_every: terms.Lapse = None
    at_least_every: terms.Lapse = None
    by: By
    keys: Keys

    @model_validator(mode="after")
    def _check(self) -> Deadband:
        return _one_of(self, "change", "percent")


class Limit(Step):
    """Drop messages above a rate."""

    action: Literal["limit"]
    messages: int = Field(ge=1, le=1_000_000)
    per: terms.Lapse
    by: By
    keys: Keys


class Unique(Step):
    """Drop repeated messages."""

    action: Literal["unique"]
    within: terms.Lapse
    path: terms.Path = None
    paths: list[terms.Path] | None = Field(None, min_length=1)
    by: By
    keys: Keys

    @model_validator(mode="after")
    def _check(self) -> Unique:
        if {"path", "paths"} <= self.model_fields_set:
            raise ValueError("has both `path` and `paths`")
        return self


class Topic(Step):
    """Another topic, or some of its levels hashed, or both."""

    action: Literal["topic"]
    to: terms.TopicTemplate = Field(None, description="Default, with `hash`: the topic as it is.")
    hash: list[Annotated[int, Field(ge=0, le=65535)]] | None = Field(
        None, min_length=1, max_length=16, description="These levels of its topic, from 0 on, before `to`."
    )
    key: terms.Key = None
    key_file: str | None = None
    length: int | None = Field(None, ge=4, le=64)

    @model_validator(mode="after")
    def _check(self) -> Topic:
        said = self.model_fields_set
        if "hash" in said:
            return _one_of(self, "key", "key_file")
        if "to" not in said:
            raise ValueError("needs `to` or `hash`")
        if extra := said & {"key", "key_file", "length"}:
            raise ValueError(f"`{min(extra)}` needs `hash`")
        return self


class Qos(Step):
    """Another quality of service."""

    action: Literal["qos"]
    to: int = Field(ge=0, le=2)
    mode: Literal["set", "at_most"] = "set"


class Retain(Step):
    """Make it a retained message, or none."""

    action: Literal["retain"]
    to: bool


class Properties(Step):
    """Take away what the publisher says in MQTT 5 properties."""

    action: Literal["properties"]
    keep: list[Property] | None = Field(None, description="Only these stay.")
    remove: list[Property] | None = Field(None, min_length=1, description="These go.")

    @model_validator(mode="after")
    def _check(self) -> Properties:
        return _one_of(self, "keep", "remove")


class Set(Step):
    """Put a value into the payload."""

    action: Literal["set"]
    path: terms.OnePlace
    to: terms.Value
    only_if_missing: bool = False


class Emit(Step):
    """Publish another message besides."""

    action: Literal["emit"]
    topic: terms.TopicTemplate
    payload: terms.Document = "message"
    qos: int = Field(0, ge=0, le=2)
    retain: bool = False


class Alert(Step):
    """Tell the operator."""

    action: Literal["alert"]
    name: TopicName
    text: terms.Template
    topic: terms.TopicTemplate = None
    at_most_every: terms.Lapse = None
    by: By
    keys: Keys


class Aggregate(Step):
    """Publish figures of what came in a window of time, instead of it."""

    action: Literal["aggregate"]
    window: terms.Lapse
    by: By
    values: dict[terms.Path, Annotated[list[Functions], Field(min_length=1)]] = Field(
        default_factory=dict, max_length=16
    )
    topic: terms.TopicTemplate
    qos: int = Field(0, ge=0, le=2)
    retain: bool = False
    keep: bool = False
    keys: Keys


class Mask(Step):
    """What all steps on values have: one path or several."""

    path: terms.Path = None
    paths: list[terms.Path] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _check_paths(self, info: ValidationInfo) -> Mask:
        if {"path", "paths"} <= self.model_fields_set:
            raise ValueError("has both `path` and `paths`")
        whole = (info.context or {}).get("format") == "text" and not isinstance(self, Remove)
        if not whole and not {"path", "paths"} & self.model_fields_set:
            raise ValueError("needs `path` or `paths`")
        if isinstance(self, Remove) and "$" in (self.path, *(self.paths or ())):
            raise ValueError("cannot remove the whole payload; use drop or redact")
        return self


class Remove(Mask):
    """Values go, with their names."""

    action: Literal["remove"]


class Redact(Mask):
    """Another scalar."""

    action: Literal["redact"]
    with_: terms.Scalar = Field("***", alias="with")


class Keyed(Mask):
    """A mask with a secret."""

    key: terms.Key = None
    key_file: str | None = None

    @model_validator(mode="after")
    def _check_key(self) -> Keyed:
        if isinstance(self, Patterns) and not {"key", "key_file"} & self.model_fields_set:
            return self
        return _one_of(self, "key", "key_file")


class Hash(Keyed):
    """HMAC-SHA-256 as hexadecimal digits."""

    action: Literal["hash"]
    length: int = Field(16, ge=4, le=64)


class Truncate(Mask):
    """The first characters."""

    action: Literal["truncate"]
    length: int = Field(ge=0, le=1_000_000)


class Round(Mask):
    """The nearest multiple."""

    action: Literal["round"]
    to: terms.Multiple


class Date(Mask):
    """The hour, day, month or year of a time."""

    action: Literal["date"]
    to: Literal["hour", "day", "month", "year"]
    utc_offset: terms.Offset = None


class Patterns(Keyed):
    """Hide what has a known form in free text."""

    action: Literal["patterns"]
    kinds: list[Kind] | None = Field(None, min_length=1)
    with_: str = Field("***", alias="with")
    keep_last: int | None = Field(None, ge=0, le=100)
    length: int | None = Field(None, ge=4, le=64)

    @model_validator(mode="after")
    def _check_way(self) -> Patterns:
        said = self.model_fields_set
        hashes = bool({"key", "key_file"} & said)
        if ("with_" in said) + ("keep_last" in said) + hashes > 1:
            raise ValueError("`with`, `keep_last` and `key` exclude one another")
        if "length" in said and not hashes:
            raise ValueError("`length` needs `key` or `key_file`")
        return self


class Search(Mask):
    """Hide texts in free text."""

    action: Literal["search"]
    text: terms.Text = None
    texts: list[terms.Text] | None = Field(None, min_length=1, max_length=256)
    glob: terms.Glob = None
    globs: list[terms.Glob] | None = Field(None, min_length=1, max_length=256)
    with_: str = Field("***", alias="with")
    ignore_case: bool = False
    whole_words: bool = False
    over_spaces: bool = Field(False, description="In globs: `*` and `?` stand for spaces, too.")

    @model_validator(mode="after")
    def _check_wanted(self) -> Search:
        if not {"text", "texts", "glob", "globs"} & self.model_fields_set:
            raise ValueError("needs one of `text`, `texts`, `glob`, `globs`")
        if sum(len(part) if isinstance(part, list) else 1 for part in self._wanted()) > _MOST_WANTED:
            raise ValueError(f"searches for more than {_MOST_WANTED} texts and globs")
        if self.whole_words and {"glob", "globs"} & self.model_fields_set:
            raise ValueError("`whole_words` goes with `text` or `texts` only")
        if self.over_spaces and not {"glob", "globs"} & self.model_fields_set:
            raise ValueError("`over_spaces` goes with `glob` or `globs` only")
        return self

    def _wanted(self) -> list[Any]:
        return [part for part in (self.text, self.texts, self.glob, self.globs) if part is not None]


class Pseudonymise(Keyed):
    """A pseudonym of the same form, which only the key undoes."""

    action: Literal["pseudonymise"]
    key: terms.LongKey = None
    tweak: terms.Text = None
    keep_first: int = Field(0, ge=0, le=256)
    keep_last: int = Field(0, ge=0, le=256)
    allow_short: bool = False


class Reveal(Pseudonymise):
    """What a pseudonym stands for."""

    action: Literal["reveal"]  # type: ignore[assignment]


class Grid(Step):
    """The middle of a cell, instead of a position in it."""

    action: Literal["grid"]
    latitude: terms.Path
    longitude: terms.Path
    metres: terms.Metres = None
    degrees: terms.Degrees = None

    @model_validator(mode="after")
    def _check(self) -> Grid:
        return _one_of(self, "metres", "degrees")


class Group(Part):
    """Several steps under one condition."""

    when: Condition | None = None
    steps: list[AnyStep]


def _one_of(model: _Model, first: str, second: str) -> _Model:
    if (first in model.model_fields_set) == (second in model.model_fields_set):
        raise ValueError(f"needs either `{first}` or `{second}`")
    return model


ACTIONS: dict[str, type[Section]] = {
    get_args(kind.model_fields["action"].annotation)[0]: kind
    for kind in (
        *(
            Drop,
            Keep,
            Sample,
            Deadband,
            Limit,
            Unique,
            Topic,
            Qos,
            Retain,
            Properties,
            Set,
            Emit,
            Alert,
            Aggregate,
        ),
        *(Remove, Redact, Hash, Pseudonymise, Reveal, Truncate, Round, Grid, Date, Patterns, Search),
    )
}
"""The models of the steps, by their action."""


def _tag(step: Any) -> str | None:
    """The model of a step; in brackets, so that errors can be told without it."""
    if not isinstance(step, dict):
        return None
    return "[group]" if "action" not in step and "steps" in step else f"[{step.get('action')}]"


MODELS: dict[str, type[Section]] = {f"[{name}]": kind for name, kind in ACTIONS.items()} | {"[group]": Group}
"""The models of the steps, as they stand in the places of pydantic's errors."""

if TYPE_CHECKING:
    AnyStep = Section
else:
    AnyStep = Annotated[
        Union[tuple(Annotated[kind, Tag(tag)] for tag, kind in MODELS.items())],  # noqa: UP007
        Discriminator(_tag),
    ]


class RulesConfig(Section):
    """What the built-in rules do."""

    format: Literal["json", "cbor", "msgpack", "text", "auto"] = Field("json", description="Of the payloads.")
    on_undecodable: Literal["drop", "pass"] = Field(
        "drop", description="What happens to a message whose payload is not of the format."
    )
    utc_offset: terms.Zone = Field("local", description="Of the times of day: `local`, or such as +08:00.")
    steps: list[AnyStep] = Field(default_factory=list, description="In their order.")


for _model in (Group, RulesConfig):
    _model.model_rebuild()


def mistakes(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with a configuration of the built-in rules, as pydantic tells it."""
    try:
        RulesConfig.model_validate(config, context={"format": config.get("format")})
    except ValidationError as error:
        return [dict(one) for one in error.errors()]
    return []
