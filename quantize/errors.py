"""The base of every error that `quantize` raises on purpose."""


class QuantizeError(Exception):
    """Something in `quantize` failed. The message is one line and says what to do about it."""
