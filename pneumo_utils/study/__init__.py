"""Running a chapter and keeping what it made: a notebook needs only `begin`; the rest is behind the `pneumo`
command.
"""

from pneumo_utils.study.run_context import begin

__all__ = ["begin"]
