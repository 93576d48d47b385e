"""Imported once by the process that runs are forked off (see launchers_local): it has everything loaded then."""

from glidexp.study.work import preload

preload()
