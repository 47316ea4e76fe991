"""Compose the book's page on the Python interface: every public name with its arguments and an example.

The sources are read and not imported. Sphinx's autodoc is not used, because it knows neither the form of the
docstrings here (a line `argument: explanation`) nor the comments beside the fields of data classes.
"""

import ast
import copy
import re
from dataclasses import dataclass, field

from pneumo_utils.common.code_digest import PACKAGE, module_file, public_modules
from pneumo_utils.common.files import ROOT

AREA = re.compile(r"(?m)^# (\w+)\n((?:from .*\n)+)")

HEAD = """# Python interface

`import pneumo_utils as pu` gives the names on this page. Importing costs nothing: a module is loaded when the first of
its names is used. The first example writes simulated radiographs of children, splits them by patient, trains the last
block (`conv5_x`) and the new last layer (`head`) of a small ResNet18, and compares it with a logistic regression on
pixels:

```python
{example}```

Every other example on this page begins where this one ends, with its `cohort`, `train`, `test`, `trunk`, `dls`,
`test_loader`, `model`, `learn`, `network` and `pixels`, and with `import numpy as np`. None needs another.

Four words are this project's own. A *release* is a data set in the files and folders in which it was published. A
*cohort* is a table with one row per image, read from a release, and where the pixels are. A *trunk* is a network
without its last, classifying layer; its parts are blocks, which are frozen and trained by their names.
`pu.trunk_table()` lists the networks. *Pocket* weights come with the package: the network is narrow and was
pre-trained on drawn images.

A learner is fastai's own [Learner](https://docs.fast.ai/learner.html). So `lr_find`, `fit_one_cycle`, `fine_tune`,
`validate`, `get_preds`, `save`, `load`, `show_results`, `Interpretation` and `ClassificationInterpretation` work as
documented there, except that freezing and unfreezing choose only among the blocks that `set_trainable` left trainable;
`from fastai.vision.all import *` lets `show_results` draw a grid of images. Images are rows of an
array, so what asks fastai for a single file does not work: `learn.predict`, `plot_top_losses`, `dls.test_dl`. Take
`pu.predict(learn, test_loader)`.

The callbacks `MaxSteps`, `KeepBest` and `StopAtNaN` also work in a `Learner` that you build yourself; `Checkpoint`
needs one that `pu.learner` built. Several seeds are a loop:

```python
scores = []
for seed in range(3):
    model = pu.with_head(pu.trunk("resnet18", weights="pocket"), 2, seed=seed)
    learn = pu.learner(dls, pu.set_trainable(model, "conv5_x + head"))
    with pu.fitting(learn, seed=seed):
        learn.fit(5)
    scores.append(pu.compute_score(pu.predict(learn, test_loader), "auroc").value)
print(pu.mean_ci(scores))  # mean and 95 % interval over seeds
```

This is software for a study, not a medical device.
"""


@dataclass
class Docstring:
    """A docstring in parts."""

    text: list[str] = field(default_factory=list)  # paragraphs
    arguments: dict[str, str] = field(default_factory=dict)  # explanation by name
    example: str = ""  # lines that begin with >>>


def parse_docstring(docstring: str, arguments: set[str]) -> Docstring:
    """Split a docstring into paragraphs, explanations of arguments, and the example at its end.

    docstring: the docstring, cleaned of its indentation.
    arguments: the names that may be explained, in lines such as "seed: random seed".
    """
    before, prompt, example = docstring.partition(">>> ")
    parsed = Docstring(example=prompt + example)
    for paragraph in before.strip().split("\n\n"):
        name = rf"(?:{'|'.join(sorted(arguments))})"
        items = re.split(rf"(?m)^(?={name}(?:, {name})*: )", paragraph)
        if not arguments or items[0]:
            parsed.text.append(" ".join(paragraph.split()))
            continue
        for item in items[1:]:
            names, _, explanation = item.partition(": ")
            for argument in names.split(", "):
                parsed.arguments[argument] = " ".join(explanation.split())
    return parsed


def public_areas() -> dict[str, list[str]]:
    """Return the public names by area, in the order of `__init__.pyi`."""
    stub = ROOT.joinpath(PACKAGE, "__init__.pyi").read_text(encoding="utf-8")
    return {area: re.findall(r" as (\w+)", lines) for area, lines in AREA.findall(stub)}


def api_page() -> str:
    """Compose the page as MyST Markdown, from the README's example and the docstrings of the public names."""
    example = ROOT.joinpath("README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    parts = [HEAD.format(example=example)]
    for area, names in public_areas().items():
        parts.append(f"## {area.capitalize()}\n")
        parts.append(" · ".join(f"{{py:obj}}`~{PACKAGE}.{name}`" for name in names) + "\n")
        parts += [_describe(name) for name in names]
    return "\n".join(parts)


def _describe(name: str) -> str:
    """Compose the entry of one public name."""
    path = module_file(public_modules()[name])
    assert path is not None, "__init__.pyi names modules of the package"
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _describe_class(name, node, text.splitlines(), _constants(tree))
        if isinstance(node, ast.FunctionDef) and node.name == name:
            parsed = parse_docstring(ast.get_docstring(node) or "", set(_arguments(node)))
            return _entry("function", f"{name}{_signature(node, _constants(tree))}", parsed)
    raise KeyError(name)


def _describe_class(name: str, node: ast.ClassDef, lines: list[str], constants: dict[str, ast.expr]) -> str:
    """Compose the entry of a class: its constructor's arguments, its example, and a list of its methods."""
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    fields, defaults = {}, {}  # fields are explained by the comment on the same line
    for part in node.body:
        if is_dataclass and isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            fields[part.target.id] = lines[part.lineno - 1].partition("  # ")[2]
            defaults[part.target.id] = f"={_default(part.value, constants)}" if part.value else ""
    constructor = next((method for method in methods if method.name == "__init__"), None)
    signature = f"({', '.join(field + default for field, default in defaults.items())})"
    if constructor:
        signature = _signature(constructor, constants)
    names = set(_arguments(constructor)) if constructor else set(fields)
    parsed = parse_docstring(ast.get_docstring(node) or "", names)
    if constructor and (explained := ast.get_docstring(constructor)):
        parsed.arguments |= parse_docstring(explained, names).arguments
    parsed.arguments |= {key: text for key, text in fields.items() if text and not constructor}
    callback = any(ast.unparse(base).endswith(("Callback", "Transform")) for base in node.bases)
    listed = [] if callback else [method for method in methods if not method.name.startswith("_")]
    return _entry(
        "class", f"{name}{signature}", parsed, "\n".join(_describe_method(method, constants) for method in listed)
    )


def _describe_method(method: ast.FunctionDef, constants: dict[str, ast.expr]) -> str:
    """Compose the list item of a method or property, with its arguments below it."""
    explained = parse_docstring(ast.get_docstring(method) or "", set(_arguments(method)))
    head = (
        f"- `{method.name}{'' if _is_property(method) else _signature(method, constants)}`: {' '.join(explained.text)}"
    )
    return "\n".join([head, *(f"  - *{name}*: {text}" for name, text in explained.arguments.items())])


def _entry(kind: str, signature: str, parsed: Docstring, methods: str = "") -> str:
    """Compose one directive of Sphinx's Python domain."""
    blocks = [*parsed.text, "\n".join(f":param {name}: {text}" for name, text in parsed.arguments.items()), methods]
    if parsed.example:
        blocks.append(f"```pycon\n{parsed.example}\n```")
    body = "\n\n".join(filter(None, blocks))
    return f"````{{py:{kind}}} {signature}\n:module: {PACKAGE}\n\n{body}\n````\n"


def _arguments(function: ast.FunctionDef) -> list[str]:
    """List the names of a function's arguments."""
    arguments = function.args
    extra = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]]


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Return the constants of a module by name, and those that it imports from other modules of the package."""
    constants: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (path := module_file(node.module or "")):
            imported = {alias.asname or alias.name: alias.name for alias in node.names if alias.name.isupper()}
            others = _constants(ast.parse(path.read_text(encoding="utf-8"))) if imported else {}
            constants |= {name: others[origin] for name, origin in imported.items() if origin in others}
        elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            constants[target.id] = node.value
        elif isinstance(node, ast.Assign) and isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            constants |= {ast.unparse(name): value for name, value in zip(target.elts, node.value.elts)}
    return constants


def _default(value: ast.expr, constants: dict[str, ast.expr]) -> str:
    """Format a default: a constant by its value, `field(default_factory=f)` as `f()`, and a longer factory as `...`."""
    if isinstance(value, ast.Name) and isinstance(constant := constants.get(value.id), ast.Constant):
        value = constant
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        factory = value.keywords[0].value
        return f"{factory.id}()" if isinstance(factory, ast.Name) else "..."
    return ast.unparse(value)


def _signature(function: ast.FunctionDef, constants: dict[str, ast.expr]) -> str:
    """Format the arguments with their defaults, without types and without `self`."""
    arguments = copy.deepcopy(function.args)
    arguments.defaults[:] = [ast.Name(_default(value, constants)) for value in arguments.defaults]
    arguments.kw_defaults = [value and ast.Name(_default(value, constants)) for value in arguments.kw_defaults]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in [*every, *filter(None, (arguments.vararg, arguments.kwarg))]:
        argument.annotation = None
    arguments.args = [argument for argument in arguments.args if argument.arg not in ("self", "cls")]
    return f"({ast.unparse(arguments)})"


def _is_property(method: ast.FunctionDef) -> bool:
    """Tell whether a method is read like an attribute."""
    return any(ast.unparse(decorator).endswith("property") for decorator in method.decorator_list)
