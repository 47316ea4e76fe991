"""Read the parameters of a chapter from its parameters cell, and check the values that a user sets.

The cell has one parameter on each line, `name: type = value  # help`. The help may begin with the allowed values:
`{a, b}` one of these, `{folder}` or `{file}` a path that exists (or no path), `[1, 100]` or `(0, 1]` a range.
"""

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.common.suggest import did_you_mean, most_similar
from pneumo_utils.study.chapters import Chapter

CHOICES = re.compile(r"^\{(?P<choices>[^}]*)\}\s*")
RANGE = re.compile(
    r"^(?P<open>[\[(])\s*(?P<low>-?[\d.e+-]+|-inf)\s*,\s*(?P<high>-?[\d.e+-]+|inf)\s*(?P<close>[\])])\s*"
)
PATH_KINDS = {"folder", "file"}
MAX_FILE_BYTES = 100_000  # bytes that a parameters file may have


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter."""

    name: str
    type: str  # "int", "float", "str", "bool", "list", or a list such as "list[int]"
    default: object
    help: str  # the comment behind the default, which may begin with the allowed values

    @property
    def choices(self) -> list[str]:
        """Return the choices in braces at the start of the help."""
        match = CHOICES.match(self.help)
        return [choice.strip() for choice in match["choices"].split(",")] if match else []

    @property
    def says(self) -> str:
        """Return the help without the allowed values."""
        return RANGE.sub("", CHOICES.sub("", self.help))

    @property
    def path_kind(self) -> str:
        """Return "folder" or "file" if the value is a path to data, else an empty text."""
        return next((choice for choice in self.choices if choice in PATH_KINDS), "")

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, or an empty text if all values of its type are allowed."""
        if match := RANGE.match(self.help):
            return match.group().strip()
        words = [choice for choice in self.choices if choice not in PATH_KINDS]
        return " | ".join(words + [f"a {self.path_kind}"] * bool(self.path_kind))

    def check(self, value: Any) -> str:
        """Return what is wrong with a value, as the end of a sentence, or an empty text if it is allowed.

        value: the value that a user set.
        """
        if any(isinstance(number, int) and number.bit_length() > 63 for number in _items(value)):
            return "takes numbers of at most 18 digits"
        if not _has_type(value, self.type):
            return f"takes {_type_name(self.type)}, not {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"takes a finite number, not {value!r}"
        if match := RANGE.match(self.help):
            low, high = float(match["low"]), float(match["high"])
            for item in _items(value):
                above = item >= low if match["open"] == "[" else item > low
                below = item <= high if match["close"] == "]" else item < high
                if not (above and below):
                    return f"lies in {match.group().strip()}, and {item!r} does not"
        if self.path_kind and value and value not in self.choices:
            exists = Path(value).is_dir() if self.path_kind == "folder" else Path(value).is_file()
            if not exists:
                return f"names a {self.path_kind}, and there is none at {value!r}"
        elif self.choices and not self.path_kind:
            for item in _items(value):
                if str(item) not in self.choices:
                    return f"is one of {', '.join(self.choices)}, not {item!r}{did_you_mean(item, self.choices)}"
        return ""


def _items(value) -> list:
    return value if isinstance(value, list) else [value]


def _type_name(kind: str) -> str:
    """Return the name of a type in words, with its article."""
    return {"int": "a whole number", "float": "a number", "str": "a text", "bool": "True or False"}.get(
        kind, f"a {kind}"
    )


def _has_type(value, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_has_type(item, kind[5:-1]) for item in value)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool, "list": list}[kind])


def parse_parameters(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """Parse the source of a parameters cell and return its parameters by name.

    Raises a StudyError for a line that papermill would ignore.

    source: the source of the cell.
    where: what an error calls the cell.
    """
    lines, parameters = source.splitlines(), {}
    for node in ast.parse(source).body:
        line = lines[node.lineno - 1]
        try:
            assert isinstance(node, ast.AnnAssign) and node.lineno == node.end_lineno
            assert isinstance(node.target, ast.Name) and node.value is not None
            value, kind = ast.literal_eval(node.value), ast.unparse(node.annotation)
            assert kind.removeprefix("list[").removesuffix("]") in {"int", "float", "str", "bool", "list"}
        except (AssertionError, ValueError):
            raise StudyError(
                f"{where}: {line!r} is not one literal on one line, `name: type = value  # help`; "
                "papermill would drop it without a word."
            ) from None
        comment = line[node.end_col_offset :].strip()
        parameters[node.target.id] = Parameter(node.target.id, kind, value, comment.lstrip("# "))
    return parameters


def chapter_parameters(chapter: Chapter) -> dict[str, Parameter]:
    """Read the parameters of a chapter; raise a StudyError if no cell is tagged `parameters`."""
    for cell in chapter.notebook()["cells"]:
        if cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            return parse_parameters("".join(cell["source"]), chapter.path.name)
    raise StudyError(f"{chapter.path.name} has no cell tagged `parameters`, so nothing that is given would reach it.")


def check_parameters(parameters: dict[str, Parameter], values: dict) -> None:
    """Raise a ParameterError that lists every unknown name, wrong type and value that is not allowed.

    parameters: the parameters of the chapter by name.
    values: the values that the user set by name.
    """
    faults = []
    for name, value in values.items():
        if name not in parameters:
            faults.append(
                f"there is no parameter {name!r}{did_you_mean(name, parameters)}"
                + ("" if most_similar(name, parameters) else f" There are {', '.join(parameters)}.")
            )
        elif fault := parameters[name].check(value):
            faults.append(f"{name} {fault}")
    if faults:
        raise ParameterError("Nothing was run: " + "\n  and ".join(faults))


def resolve_parameters(chapter: Chapter, overrides: dict) -> dict:
    """Return the value of every parameter of a chapter: the overrides, which are checked, and the defaults.

    chapter: the chapter.
    overrides: the parameters that differ from their defaults, by name.
    """
    known = chapter_parameters(chapter)
    check_parameters(known, overrides)
    return {name: parameter.default for name, parameter in known.items()} | overrides


def convert_words(parameters: dict[str, Parameter], words: list[tuple[str, str]]) -> dict:
    """Convert the words of a command line to the types of their parameters.

    A word that cannot be converted stays a text, so that checking the values later reports it.

    parameters: the parameters of the chapter by name.
    words: pairs of a parameter's name and the word for its value.
    """
    return {name: _convert(word, parameters[name].type) if name in parameters else word for name, word in words}


def _convert(word: str, kind: str):
    if kind == "str":
        return word
    try:
        value = yaml.safe_load(word)
        return float(value) if kind == "float" and not isinstance(value, bool) else value
    except (yaml.YAMLError, TypeError, ValueError, OverflowError, RecursionError):
        return word


class _PlainLoader(yaml.SafeLoader):
    """A YAML loader that refuses aliases, because a few nested aliases can expand to gigabytes."""

    def compose_node(self, parent, index):
        """Read a node; raise an error for an alias.

        parent, index: the node's parent and its position there, as in PyYAML.
        """
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"*{event.anchor} is an alias", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def read_parameters_file(path: Path) -> dict:
    """Read parameters from a YAML file and return their values by name.

    Raises a StudyError for a file that cannot be read, is too large, or holds anything but names and values.

    path: the file.
    """
    try:
        if not path.is_file():
            raise StudyError(f"The parameters file {path} cannot be read: there is no such file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise StudyError(f"The parameters file {path} has more than {MAX_FILE_BYTES:,} bytes; one has a few lines.")
        given = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"The parameters file {path} cannot be read: {error}.") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise StudyError(
            f"The parameters file {path} is not YAML: {reason}. It holds lines such as `seed: 1`."
        ) from error
    if not isinstance(given, dict):
        raise StudyError(f"The parameters file {path} holds {type(given).__name__}, not lines such as `seed: 1`.")
    if wrong := [name for name in given if not isinstance(name, str)]:
        raise StudyError(f"The parameters file {path} has {wrong[0]!r} in the place of a parameter's name.")
    return given


def tier(chapter: Chapter, values: dict) -> str:
    """Name the settings of a run: "pocket" for the defaults, "paper" for the paper's settings, else what differs.

    Paths to data do not count as settings.

    chapter: the chapter.
    values: the value of each parameter by name.
    """
    known = chapter_parameters(chapter)
    settings = {name: value for name, value in values.items() if not known[name].path_kind}
    paper = chapter.notebooks_dir / "params" / "paper" / f"{chapter.name}.yml"
    if paper.exists():
        paper_values = {name: parameter.default for name, parameter in known.items()} | read_parameters_file(paper)
        if all(paper_values[name] == value for name, value in settings.items()):
            return "paper"
    changed = [f"{name} = {value}" for name, value in settings.items() if value != known[name].default]
    return "pocket" + (f", with {', '.join(changed)}" if changed else "")
