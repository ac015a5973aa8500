"""Whether attention may use cuDNN's kernel on GPUs, where nothing else is said."""

_allowed: bool | None = None


def enable_flash_attention() -> None:
    """Leave it to each layer and op again."""
    global _allowed
    _allowed = None


def disable_flash_attention() -> None:
    """Use no flash attention but where `flash_attention=True` asks for it."""
    global _allowed
    _allowed = False


def is_flash_attention_enabled() -> bool | None:
    """`False` once it is disabled, else `None`."""
    return _allowed
