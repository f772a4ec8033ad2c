"""What form an answer must have, as the REST dialects ask for it: OpenAI's way, vLLM's and llama-server's. Pure."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from aos.errors import InvalidField
from aos.nesting import DEPTH, too_deep
from aos.v1.types_pb2 import Choices, Constraint

_GBNF: Final = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
"""How a rule begins in GBNF; Lark has one colon."""


def _schema(value: object) -> object:
    if not isinstance(value, dict | bool):
        raise ValueError("must be a JSON Schema: an object, or true or false")  # noqa: TRY004  # pydantic's protocol
    return value  # pyright: ignore[reportUnknownVariableType]


def _schema_or_text(value: object) -> object:
    """Return a schema that may come as text, as vLLM's clients send it."""
    if isinstance(value, str):
        if too_deep(value):
            raise ValueError(f"is nested more than {DEPTH} levels deep")
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from error
    return _schema(value)


Schema = Annotated[Any, BeforeValidator(_schema)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class JsonSchemaFormat(_Strict):
    """OpenAI's wrapping of a schema. A schema is always followed to the letter, so ``strict`` changes nothing."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Schema = Field(alias="schema")
    # in schemas and around them nulls are left as they are
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(_Strict):
    """OpenAI's way."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(_Strict):
    """vLLM's way: one of these."""

    json_: Annotated[Any, BeforeValidator(_schema_or_text)] = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool = False


class Formed(BaseModel):
    """The fields of every body that asks for text; one of them."""

    model_config = ConfigDict(strict=True, extra="forbid")

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    # llama-server's
    grammar: str | None = None
    json_schema: Schema = None

    @property
    def constraint(self) -> Constraint | None:
        """What form the answer must have; None: any. Raises InvalidField if fields contradict each other."""
        asked = self._asked()
        if len(asked) > 1:
            (first, _), (second, _), *_ = asked
            raise InvalidField(second, f"contradicts {first}; send one of them")
        return asked[0][1] if asked else None

    @property
    def constraint_field(self) -> str:
        """The field that says so; empty if none does. Raises as ``constraint`` does."""
        return self._asked()[0][0] if self.constraint is not None else ""

    def _asked(self) -> list[tuple[str, Constraint]]:
        asked: list[tuple[str, Constraint]] = []
        if self.response_format is not None:
            asked += _openai(self.response_format)
        if self.structured_outputs is not None:
            asked += _vllm(self.structured_outputs)
        if self.grammar is not None:
            asked.append(("grammar", Constraint(gbnf=self.grammar)))
        if self.json_schema is not None:
            asked.append(("json_schema", Constraint(json_schema=_text(self.json_schema))))
        return asked


def _openai(asked: ResponseFormat) -> list[tuple[str, Constraint]]:
    match asked:
        case ResponseFormat(type="json_schema", json_schema=None):
            raise InvalidField("response_format.json_schema", "is missing")
        case ResponseFormat(type="json_schema", json_schema=JsonSchemaFormat(schema_=schema)):
            return [("response_format.json_schema.schema", Constraint(json_schema=_text(schema)))]
        case ResponseFormat(json_schema=JsonSchemaFormat()):
            raise InvalidField("response_format.json_schema", "is only for type json_schema", value=asked.type)
        case ResponseFormat(type="json_object"):
            return [("response_format", Constraint(json_object=True))]
        case _:
            return []


def _vllm(asked: StructuredOutputs) -> list[tuple[str, Constraint]]:
    at, found = "structured_outputs", list[tuple[str, Constraint]]()
    if asked.json_ is not None:
        found.append((f"{at}.json", Constraint(json_schema=_text(asked.json_))))
    if asked.regex is not None:
        found.append((f"{at}.regex", Constraint(regex=asked.regex)))
    if asked.choice is not None:
        found.append((f"{at}.choice", Constraint(choices=Choices(texts=asked.choice))))
    if asked.grammar is not None:
        gbnf = _GBNF.search(asked.grammar)
        found.append((f"{at}.grammar", Constraint(gbnf=asked.grammar) if gbnf else Constraint(lark=asked.grammar)))
    if asked.json_object:
        found.append((f"{at}.json_object", Constraint(json_object=True)))
    if not found:
        raise InvalidField(at, "must have one of json, regex, choice, grammar and json_object")
    return found


def _text(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
