"""What can go wrong, in one line each."""


class TestbedError(Exception):
    """Something did not work; exit code 1."""

    __test__ = False


class Refused(TestbedError):
    """Asked for something that cannot be, and nothing was changed; exit code 2."""
