"""Errors a person can act on. Each message is one line: what is wrong with which value, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class GlidexpError(Exception):
    """A mistake in a setting, a file or a command. The doors print it as one line and exit with code 2."""


class ConfigError(GlidexpError):
    """A setting or a combination of settings is not possible."""


class DataError(GlidexpError):
    """A scene, an inventory or a tile store cannot be used as it is."""


class RunFailed(GlidexpError):
    """A run could not be brought to its end, through no mistake in what was typed. The doors exit with code 1."""


class LeakError(GlidexpError):
    """Tiles that are to be scored lie on ground that the network has met in training."""


class TrackingError(GlidexpError):
    """The tracking store cannot be reached or is of another version."""


def unreadable(word: str) -> ConfigError:
    """Builds the error for a word of the command line that Hydra's grammar does not take."""
    home = " For ~, the home folder, write $HOME." if "=~" in word else ""
    return ConfigError(
        f"{word} cannot be read: brackets and quotes must come in pairs, and text with any of = , ( ) [ ] {{ }} in it, "
        "or letters beyond a to z, needs quotes of its own inside the shell's, such as \"KEY=['a=1','b=2']\"." + home
    )


def no_value(given: str, allowed: Iterable[str] = ()) -> ConfigError:
    """What is said of a setting that was given nothing, and is needed."""
    way = f" Allowed: {', '.join(names)}." if (names := sorted(allowed)) else ""
    return ConfigError(f"{given} is not possible: it needs a value. Leave it out to have its default.{way}")


def unknown_name(setting: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """Builds the error for a name outside a closed list, with the nearest spelling first.

    Args:
        setting: dotted config key, as typed on the command line
        value: what was given
        allowed: every name that would have been accepted
    """
    names = sorted(allowed)
    near = get_close_matches(value, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ConfigError(f"{setting}='{value}' is not known.{hint} Allowed: {', '.join(names) or 'none'}.")
