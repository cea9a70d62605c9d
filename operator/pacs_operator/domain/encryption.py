"""``spec.encryption``: how images lie at rest, and what is said of the index."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

DATA_KEY_AGE_DAYS = 90
REENCRYPT_MI_PER_SECOND = 50  # beside modalities that store


class IndexEncryption(Model):
    """What the platform team says of the index at rest: its word, which nothing here proves."""

    mode: Literal["StorageClass", "None"]
    reason: Annotated[str, Field(min_length=10, max_length=256)] | None = None

    @model_validator(mode="after")
    def _reason_for_none(self) -> Self:
        _check_reason("spec.encryption.index", "StorageClass", "the index is", self.mode, self.reason)
        return self


class Encryption(Model):
    """Encryption of the images at rest; ``None`` needs a reason, which is shown in the status."""

    mode: Literal["Transit", "None"]
    reason: Annotated[str, Field(min_length=10, max_length=256)] | None = None
    index: IndexEncryption | None = None
    data_key_max_age_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    data_key_max_chunks: Annotated[int, Field(ge=2**20, le=2**32)] | None = None
    reencrypt_mi_per_second: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @model_validator(mode="after")
    def _what_goes_with_the_mode(self) -> Self:
        _check_reason("spec.encryption", "Transit", "images are", self.mode, self.reason)
        keys = {
            "dataKeyMaxChunks": self.data_key_max_chunks,
            "reencryptMiPerSecond": self.reencrypt_mi_per_second,
            "dataKeyMaxAgeDays": self.data_key_max_age_days,
        }
        for name in (name for name, value in keys.items() if value and not self.on):
            raise InvalidSpecError(
                f"spec.encryption.{name}: given while mode is None", action="leave it out, or encrypt with mode Transit"
            )
        return self

    @property
    def on(self) -> bool:
        """Tell whether images are encrypted."""
        return self.mode == "Transit"

    @property
    def key_age_days(self) -> int:
        """Return after how many days new images get a new data key."""
        return self.data_key_max_age_days or DATA_KEY_AGE_DAYS

    @property
    def reencrypt_rate(self) -> int:
        """Return at how many MiB a second images that lie on the volume are encrypted."""
        return self.reencrypt_mi_per_second or REENCRYPT_MI_PER_SECOND


def _check_reason(field: str, encrypted: str, what: str, mode: str, reason: str | None) -> None:
    """Refuse mode None without a reason, and a reason without mode None."""
    if (mode == encrypted) is (reason is not None):
        raise InvalidSpecError(
            f"{field}.reason: {'given' if mode == encrypted else 'missing'} while mode is {mode}",
            action=f"say with mode None why {what} not encrypted; leave it out with mode {encrypted}",
        )
