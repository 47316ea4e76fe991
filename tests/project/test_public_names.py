"""The public names of the package: README's example and the example of each name run, and importing costs nothing."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chapter_runs import ROOT
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner
from torch.nn import Linear

import pneumo_utils as pu
from pneumo_utils.common.code_digest import imported_modules
from pneumo_utils.evaluation.metrics import CLASS_METRICS
from pneumo_utils.explain import METHODS
from pneumo_utils.phantom.writers.writer import PHANTOM_RELEASES
from pneumo_utils.study.api_page import api_page, parse_docstring


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """The variables after README's example, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("examples")
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    variables = {"np": np, "Path": Path}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, variables)
        yield variables


@pytest.mark.slow
@pytest.mark.parametrize("name", pu.__all__)
def test_the_example_of_each_public_name_runs(name, namespace):
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(pu, name), name, globs=dict(namespace))
    assert test.examples, f"{name} has no example in its docstring"
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.failed == 0


@pytest.mark.parametrize("name", pu.__all__)
def test_each_public_name_says_what_it_is(name):
    assert getattr(pu, name).__doc__.strip().splitlines()[0].endswith((".", ":"))


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, pneumo_utils; print(*[m for m in ('torch', 'fastai', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="trunc"):
        pu.trunc  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "from pneumo_utils import trunk",
        "from pneumo_utils import trunk as build",
        "import pneumo_utils as pu\npu.trunk('resnet18')",
        "import pneumo_utils\npneumo_utils.trunk('resnet18')",
    ],
)
def test_code_that_uses_a_public_name_depends_on_the_module_that_defines_it(code):
    assert imported_modules(code) == {"pneumo_utils", "pneumo_utils.models.create"}


def test_code_that_hands_the_package_on_depends_on_all_public_modules():
    modules = imported_modules("import pneumo_utils as pu\nfor name in names:\n    getattr(pu, name)")
    assert {getattr(pu, name).__module__ for name in pu.__all__} <= modules


def test_the_page_on_the_interface_explains_every_name_and_argument():
    entries = dict(re.findall(r"(?s)\{py:(?:function|class)\} (\w+)\((.*?)````", api_page()))
    assert set(entries) == set(pu.__all__)
    for name in set(pu.__all__) - {"StudyError"}:
        explained = set(re.findall(r":param (\w+): \S", entries[name]))
        arguments = set(inspect.signature(getattr(pu, name)).parameters) - {"self"}
        assert explained == arguments or name == "StopAtNaN", name  # a callback of fastai without arguments


def test_the_page_on_the_interface_shows_the_values_of_defaults():
    page = api_page()
    for name in ("learner", "set_trainable", "compute_score", "deletion_curve"):
        shown = re.search(rf"(?m)\{{py:function\}} {name}\((.*)\)$", page)[1]
        for argument in inspect.signature(getattr(pu, name)).parameters.values():
            if isinstance(argument.default, str | int):
                assert f"{argument.name}={argument.default!r}" in shown
    assert "Phase(trainable, epochs, optimizer=adam(), batch_norm='frozen', cache='auto'" in page


def test_docstrings_explain_arguments_that_exist():
    wrong = []
    for path in sorted((ROOT / "pneumo_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            arguments = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
            for paragraph in (ast.get_docstring(node) or "").split(">>> ")[0].split("\n\n"):
                names = [name for line in re.findall(r"(?m)^(\w+(?:, \w+)*): ", paragraph) for name in line.split(", ")]
                if arguments & set(names) and not set(names) <= arguments:
                    wrong.append((path.name, node.name, set(names) - arguments))
    assert not wrong


def test_a_docstring_is_split_into_text_arguments_and_example():
    parsed = parse_docstring(
        "Do it: now.\n\nseed: random seed of\nthe draw.\nlow, high: limits\n    of it.\n\nMore.\n\n>>> 1\n1",
        {"seed", "low", "high"},
    )
    assert parsed.text == ["Do it: now.", "More."] and parsed.example == ">>> 1\n1"
    assert parsed.arguments == {"seed": "random seed of the draw.", "low": "limits of it.", "high": "limits of it."}


CHAPTER_PACKAGES = ("data", "models", "training", "evaluation", "explain", "detection", "plots")
MACHINERY = ("phantom", "claims", "study", "cli")


def package_of(module):
    return (module.split(".") + [""])[1]


def module_imports():
    """The modules of the package that each of its modules imports, the packages around it left out."""
    modules = {}
    for path in sorted((ROOT / "pneumo_utils").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = {other for other in imported_modules(path.read_text()) if other != name}
    return modules


def test_what_chapters_use_imports_nothing_of_the_machinery():
    wrong = [
        (name, other)
        for name, others in module_imports().items()
        for other in others
        if package_of(name) in CHAPTER_PACKAGES and package_of(other) in MACHINERY
    ]
    assert not wrong


def test_common_imports_nothing_of_the_rest():
    imports = module_imports()
    assert {package_of(o) for name, others in imports.items() if package_of(name) == "common" for o in others} == {
        "common"
    }


def test_the_page_lists_metrics_methods_and_releases():
    page = api_page()
    assert all(name in page for name in (*CLASS_METRICS, *METHODS, *PHANTOM_RELEASES))


@pytest.mark.slow
def test_callbacks_work_in_a_learner_of_fastai(namespace):
    """MaxSteps and KeepBest with fastai's own recorder: both losses are in its table, and the best weights stay."""
    model = pu.set_trainable(pu.with_head(pu.trunk("resnet18", size="pocket", seed=0), 2, seed=0), "head")
    learn = Learner(namespace["dls"], model, lr=1e-2, cbs=[pu.MaxSteps(3), pu.KeepBest(), pu.StopAtNaN()])
    with pu.fitting(learn, seed=0), learn.no_bar(), learn.no_logging():
        learn.fit(5)
    assert len(learn.recorder.values[-1]) == 2 and learn.keep_best.best_epoch == 1
    interpretation = ClassificationInterpretation.from_learner(learn)
    assert interpretation.confusion_matrix().sum() == len(namespace["dls"].valid_ds)


def test_a_seed_gives_the_same_head():
    first, second = (pu.with_head(pu.trunk("resnet18", size="pocket"), 2, seed=3).head.answer.weight for _ in range(2))
    assert (first == second).all()


MISTAKES = [
    ("pu.set_trainable(model, 'layer4 + head')", "here it is called 'conv5_x'"),
    ("pu.set_trainable(model, ['conv5_x', 'head'])", 'one text, such as "conv5_x . head"'),
    ("pu.compute_score(network, 'sensitivity')", "it is 'recall' here"),
    ("pu.compute_score(network, 'recall', 0.5)", "threshold comes from choose_threshold"),
    ("pu.compare_models([network] * 3, pixels, 'auroc')", r"\[baseline\] \* 5"),
    ("pu.learner(dls, model, pu.weighted_cross_entropy([1, 2, 3]))", "has 3 weights, and there are 2 classes"),
    ("pu.learner(dls, Linear(2, 2))", r"build it with trunk\(name\)"),
    ("pu.saliency_maps(learn, test_loader)", "such as learn.model"),
    ("pu.predict(learn, test)", r"cohort.loader\(size, batch_size\)"),
]


@pytest.mark.slow
def test_the_loop_over_seeds_on_the_page_runs(namespace, capsys):
    loop = (
        api_page().split("```python\n")[2].split("```")[0].replace("range(3)", "range(2)").replace("fit(5)", "fit(1)")
    )
    exec(loop, dict(namespace))
    mean, low, high = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= low <= mean <= high <= 1


@pytest.mark.slow
@pytest.mark.parametrize("code, message", MISTAKES, ids=[code for code, _ in MISTAKES])
def test_a_mistake_is_answered_with_what_to_do(code, message, namespace):
    with pytest.raises(pu.StudyError, match=message):
        eval(code, {"Linear": Linear} | namespace)
