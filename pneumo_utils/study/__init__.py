"""Run the chapters and store their results. A notebook needs only `begin`; the `pneumo` command uses the rest."""

from pneumo_utils.study.run_context import begin

__all__ = ["begin"]
