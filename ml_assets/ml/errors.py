"""The one error for data that is not what a pipeline was promised."""


class DataError(ValueError):
    """Data differ from what was promised; trying again does not help.

    Attributes:
        expected: What should have been there.
        found: What was there.
        remedy: What the reader can do about it.
    """

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"expected {expected}; found {found}; remedy: {remedy}")
        self.expected = expected
        self.found = found
        self.remedy = remedy
