"""What `when` asks of a message, in the built-in rules' configuration (docs/rules.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from broker.config import rule_values as terms
from broker.config.base import Section

COMPARISONS = (
    *("exists", "equals", "not_equals", "above", "below", "at_least", "at_most", "in", "not_in"),
    *("starts_with", "ends_with", "contains", "matches_glob"),
)
SUBJECTS = (
    *("path", "topic", "topic_level", "client", "user", "qos", "retain", "time", "all", "any", "not"),
)


_NULLABLE = ("equals", "not_equals", "with_", "to", "payload")
"""What may be null."""


class Part(Section):
    """A key without a value is a mistake, where null is none that it may have: the module does not guess either."""

    @field_validator("*", mode="before")
    @classmethod
    def _check_null(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name not in _NULLABLE:
            raise ValueError("a value is expected; leave the key out for the default")
        return value


class Hours(Part):
    """Times of day, and days on which they begin."""

    from_: terms.Time = Field(None, alias="from", description="From this time on,")
    to: terms.Time = Field(None, description="and before this one; on the next day, if it is earlier.")
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = Field(
        None, min_length=1, description="On these days. Default: on all."
    )

    @model_validator(mode="after")
    def _check(self) -> Hours:
        if (self.from_ is None) != (self.to is None) or (self.from_ is None and self.days is None):
            raise ValueError("needs `from` and `to`, or `days`")
        if self.from_ is not None and self.from_ == self.to:
            raise ValueError("`from` and `to` are the same; leave both out for the whole day")
        return self


class Condition(Part):
    """What `when` asks of a message: about one thing; of values and topic levels, by one comparison."""

    path: terms.Path = Field(None, description="A value of the payload.")
    topic: terms.Filters = Field(None, description="The topic: a filter, or a list of them.")
    topic_level: int | None = Field(None, ge=0, le=65535, description="A level of the topic, from 0 on.")
    client: terms.Globs = Field(None, description="The client identifier: a glob, or a list of them.")
    user: terms.Globs = Field(None, description="The user: a glob, or a list of them.")
    qos: terms.QosList = None
    retain: bool | None = None
    time: Hours | None = None
    all_: list[Condition] | None = Field(None, alias="all", min_length=1)
    any_: list[Condition] | None = Field(None, alias="any", min_length=1)
    not_: Condition | None = Field(None, alias="not")
    exists: bool | None = None
    equals: terms.Scalar = None
    not_equals: terms.Scalar = None
    above: terms.Number = None
    below: terms.Number = None
    at_least: terms.Number = None
    at_most: terms.Number = None
    in_: list[terms.Scalar] | None = Field(None, alias="in", min_length=1)
    not_in: list[terms.Scalar] | None = Field(None, min_length=1)
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    matches_glob: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Condition:
        said = {name.rstrip("_") for name in self.model_fields_set}
        subjects = [name for name in SUBJECTS if name in said]
        comparisons = [name for name in COMPARISONS if name in said]
        if len(subjects) != 1:
            found = f", not of {' and '.join(subjects)}" if subjects else ""
            raise ValueError(f"asks of one thing{found}; allowed: {', '.join(SUBJECTS)}")
        if subjects[0] in ("path", "topic_level"):
            if len(comparisons) != 1:
                found = f", not {' and '.join(comparisons)} (`all` joins conditions)" if comparisons else ""
                raise ValueError(f"needs one comparison{found}: {', '.join(COMPARISONS)}")
        elif comparisons:
            raise ValueError(f"`{comparisons[0]}` goes with `path` and `topic_level` only")
        return self
