"""The errors a user of dpk can cause.

Every one says what was expected, what was found, where, and what to do next. The command line
prints the message alone, without a traceback; anything else that escapes is a bug of ours.
"""

from __future__ import annotations


class DpkError(Exception):
    """The root of all errors that dpk raises on purpose."""


class ValidationError(DpkError, ValueError):
    """An argument or a field has a wrong shape, type or value."""


class SkeletonError(ValidationError):
    """A skeleton that is not one: a cycle, a duplicate name, an unknown parent."""


class FileMissingError(DpkError, FileNotFoundError):
    """An input file or folder is not there."""

    # OSError.__str__ expects (errno, text); one plain sentence is what a user should read.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FileFormatError(DpkError, ValueError):
    """A file is not what it should be: another format, cut short, from a newer version."""


class VideoError(FileFormatError):
    """A video cannot be read or written as asked."""


class ModelFileError(FileFormatError):
    """A model file is damaged, from a newer version, or needs a plugin that is not installed."""


class OutputExistsError(DpkError, FileExistsError):
    """The output is already there and belongs to something else."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OutputError(DpkError, OSError):
    """The output cannot be written: disk full, folder read-only or absent."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TrainingError(DpkError):
    """A training that came to nothing: nothing was learned that could be kept."""


class DeviceMemoryError(DpkError, MemoryError):
    """A GPU, or whatever computes, has too little memory for a batch."""


class PluginError(DpkError):
    """A plugin is missing, broken, or shares its name with another."""


class MissingDependencyError(DpkError, ImportError):
    """An optional dependency is needed for this and is not installed."""


class DpkWarning(UserWarning):
    """Something went on, but not as well as it could; the message says what to do about it."""
