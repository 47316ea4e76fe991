"""A chapter's parameters, read off its first code cell and held against what is given.

One literal a line, `name: type = value  # help`. The help may begin with what the value is held to:
`{a, b}` one of these, `{folder}` or `{file}` a path that exists (or nothing), `[1, 100]` or `(0, 1]` a range.
"""

import ast
import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.study.chapters import Chapter

CHOICES = re.compile(r"^\{(?P<choices>[^}]*)\}\s*")
RANGE = re.compile(
    r"^(?P<open>[\[(])\s*(?P<low>-?[\d.e+-]+|-inf)\s*,\s*(?P<high>-?[\d.e+-]+|inf)\s*(?P<close>[\])])\s*"
)
PATHS = {"folder", "file"}
MAX_FILE = 100_000  # bytes of a parameters file


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter: its name, type, default and help."""

    name: str
    type: str
    default: object
    help: str

    @property
    def choices(self) -> list[str]:
        """Return the choices in braces at the start of the help."""
        match = CHOICES.match(self.help)
        return [choice.strip() for choice in match["choices"].split(",")] if match else []

    @property
    def says(self) -> str:
        """The help without what the machine reads of it."""
        return RANGE.sub("", CHOICES.sub("", self.help))

    @property
    def path_to(self) -> str:
        """ "folder" or "file" where the value is a path to data, else nothing."""
        return next((choice for choice in self.choices if choice in PATHS), "")

    @property
    def allowed(self) -> str:
        """What values it takes, for people."""
        if match := RANGE.match(self.help):
            return match.group().strip()
        named = [choice for choice in self.choices if choice not in PATHS]
        return " | ".join(named + [f"a {self.path_to}"] * bool(self.path_to))

    def check(self, value) -> str:
        """What is wrong with a value, or nothing."""
        if any(isinstance(number, int) and number.bit_length() > 63 for number in _items(value)):
            return "takes numbers of at most 18 digits"
        if not _is(value, self.type):
            return f"takes {_article(self.type)}, not {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"takes a finite number, not {value!r}"
        if match := RANGE.match(self.help):
            for each in value if isinstance(value, list) else [value]:
                low, high = float(match["low"]), float(match["high"])
                above = each >= low if match["open"] == "[" else each > low
                below = each <= high if match["close"] == "]" else each < high
                if not (above and below):
                    return f"lies in {match.group().strip()}, and {each!r} does not"
        if self.path_to and value and value not in self.choices:
            exists = Path(value).is_dir() if self.path_to == "folder" else Path(value).is_file()
            if not exists:
                return f"names a {self.path_to}, and there is none at {value!r}"
        elif self.choices and not self.path_to:
            for each in value if isinstance(value, list) else [value]:
                if str(each) not in self.choices:
                    near = difflib.get_close_matches(str(each), self.choices, n=1)
                    return f"is one of {', '.join(self.choices)}, not {each!r}" + (
                        f"; did you mean {near[0]}?" if near else ""
                    )
        return ""


def _items(value) -> list:
    return value if isinstance(value, list) else [value]


def _article(kind: str) -> str:
    return {"int": "a whole number", "float": "a number", "str": "a text", "bool": "True or False"}.get(
        kind, f"a {kind}"
    )


def _is(value, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is(each, kind[5:-1]) for each in value)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool, "list": list}[kind])


def declared(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """The parameters that a cell's source declares."""
    lines, found = source.splitlines(), {}
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
        found[node.target.id] = Parameter(node.target.id, kind, value, comment.lstrip("# "))
    return found


def of_chapter(chapter: Chapter) -> dict[str, Parameter]:
    """Read the parameters of a chapter; raise `StudyError` if no cell is tagged `parameters`."""
    for cell in chapter.notebook()["cells"]:
        if cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            return declared("".join(cell["source"]), chapter.path.name)
    raise StudyError(f"{chapter.path.name} has no cell tagged `parameters`, so nothing that is given would reach it.")


def check(known: dict[str, Parameter], given: dict) -> None:
    """End with one message that names every fault: an unknown name, a wrong type, an impossible value."""
    faults = []
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            faults.append(
                f"there is no parameter "
                f"{name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}.")
            )
        elif fault := known[name].check(value):
            faults.append(f"{name} {fault}")
    if faults:
        raise ParameterError("Nothing was run: " + "\n  and ".join(faults))


def settle(chapter: Chapter, given: dict) -> dict:
    """All the chapter's parameters, checked, with defaults where nothing is given."""
    known = of_chapter(chapter)
    check(known, given)
    return {name: parameter.default for name, parameter in known.items()} | given


def from_words(known: dict[str, Parameter], words: list[tuple[str, str]]) -> dict:
    """What the command line gave, each word read as its parameter's type; a word that does not fit is left for
    `check` to name.
    """
    return {name: _read(word, known[name].type) if name in known else word for name, word in words}


def _read(word: str, kind: str):
    if kind == "str":
        return word
    try:
        value = yaml.safe_load(word)
        return float(value) if kind == "float" and not isinstance(value, bool) else value
    except (yaml.YAMLError, TypeError, ValueError, OverflowError, RecursionError):
        return word


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few of them within each other unfold into gigabytes."""

    def compose_node(self, parent, index):
        """Refuse an alias, and read every other node as usual."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"*{event.anchor} is an alias", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def from_file(path: Path) -> dict:
    """Read parameters from a YAML file.

    Raises a StudyError for a file that cannot be read, is too large, or holds anything but names and values.
    """
    try:
        if not path.is_file():
            raise StudyError(f"The parameters file {path} cannot be read: there is no such file.")
        if path.stat().st_size > MAX_FILE:
            raise StudyError(f"The parameters file {path} has more than {MAX_FILE:,} bytes; one has a few lines.")
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
    if odd := [name for name in given if not isinstance(name, str)]:
        raise StudyError(f"The parameters file {path} has {odd[0]!r} in the place of a parameter's name.")
    return given


def tier(chapter: Chapter, values: dict) -> str:
    """ "pocket" for the defaults, "paper" for the paper's own settings, otherwise what was changed; where the data
    lies is no setting.
    """
    known = of_chapter(chapter)
    settings = {name: value for name, value in values.items() if not known[name].path_to}
    paper = chapter.path.parent / "params" / "paper" / f"{chapter.name}.yml"
    if paper.exists():
        wanted = {name: p.default for name, p in known.items()} | from_file(paper)
        if all(wanted[name] == value for name, value in settings.items()):
            return "paper"
    changed = [f"{name} = {value}" for name, value in settings.items() if value != known[name].default]
    return "pocket" + (f", with {', '.join(changed)}" if changed else "")
