"""Checks of one value, each refused in one line that names the setting."""

from glidexp.errors import ConfigError


def at_least(setting: str, value: float, low: float) -> None:
    """Raises ConfigError below `low`, and for what is without end."""
    if not value >= low:
        raise ConfigError(f"{setting}={value} is too small: it must be at least {low}.")
    if value == float("inf"):
        raise ConfigError(f"{setting}={value} is no number that can be used: it must be finite, and at least {low}.")


def within(setting: str, value: float, low: float, high: float, what: str) -> None:
    """Raises ConfigError outside [low, high]; `what` says what to give."""
    if not low <= value <= high:
        raise ConfigError(f"{setting}={value} is outside {low} to {high}: give {what}.")


def each_once(setting: str, names: list[str]) -> None:
    """Raises ConfigError where a list has a name twice."""
    if len(set(names)) < len(names):
        raise ConfigError(f"{setting}=[{','.join(names)}] names something twice: each once.")


def low_high(setting: str, values: list[float], low: float, high: float, what: str) -> None:
    """Raises ConfigError unless `values` are a low and a high end within [low, high]."""
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ConfigError(f"{setting}={values} is not possible: give [low, high] within {low} to {high}; {what}.")
