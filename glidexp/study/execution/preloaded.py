"""Imported once by the process that runs are forked off (see `launchers/local`): it has everything loaded then."""

from glidexp.study.execution.work import preload

preload()
