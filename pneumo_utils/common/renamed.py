"""Old names of packages and methods, and the messages that give their new names."""

import sys
from importlib.abc import MetaPathFinder

PACKAGES = {  # packages below pneumo_utils
    "backbones": "models",
    "cohort": "data.cohort",
    "datasets": "data.readers",
    "figures": "plots",
    "freezing": "models.freezing",
    "ground": "common",
    "prefix": "training.feature_cache",
    "pretraining": "phantom.pretraining",
    "releases": "phantom.writers",
    "treatments": "phantom.restoration",
}
RUN_METHODS = {  # of the object that `begin` returns in a chapter
    "beside": "compare_with_records",
    "claim": "scores",
    "judge": "verdicts",
    "kept": "cached_result",
    "kept_each": "cached_results",
    "leave": "save_table",
    "paper_says": "paper_claims",
    "survey": "mean_results",
    "uses": "describe_inputs",
}


class RenamedPackages(MetaPathFinder):
    """Answer the import of an old package with an error that names the new one."""

    def find_spec(self, name, path=None, target=None):
        """Raise `ModuleNotFoundError` for an old package, and leave all other names to Python.

        name: the full name of a module.
        path: ignored, as Python passes it.
        target: ignored, as Python passes it.
        """
        package, _, old = name.partition(".")
        if package == "pneumo_utils" and old in PACKAGES:
            raise ModuleNotFoundError(
                f"{name} is now {package}.{PACKAGES[old]}, and many of its names have changed. `import pneumo_utils as "
                "pu` gives the public ones; the page Python interface of the book explains them.",
                name=name,
            )


def announce_renamed_packages() -> None:
    """Let Python ask `RenamedPackages` first: the folder of an old package may be left with compiled files in it."""
    if not any(isinstance(finder, RenamedPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, RenamedPackages())
