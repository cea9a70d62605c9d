"""Base of all typed documents: camelCase outside, snake_case inside, unknown fields refused."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """An immutable document with camelCase keys."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        str_strip_whitespace=False,
    )

    def document(self) -> dict[str, object]:
        """Return the JSON-ready document with camelCase keys, absent values left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
