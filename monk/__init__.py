"""Who runs: command line, settings, daemon, worker, night, api, report. Imports downhill only: monk → jobs → corpus → db."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("night-monk")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0.0.0"
