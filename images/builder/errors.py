"""The one error a person sees."""


class BuildError(Exception):
    """An image cannot be built or pushed.

    Parameters
    ----------
    reason
        Stable CamelCase word.
    message
        What is wrong.
    action
        What the person can do.
    """

    def __init__(self, reason: str, message: str, action: str) -> None:
        super().__init__(f"{reason}: {message}\n  {action}")
        self.reason = reason
