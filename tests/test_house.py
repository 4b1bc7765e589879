"""The rules of the house that ruff cannot check: who may import whom, how long a file or a function
may be, what lies at the top level.
"""

import ast
import re
from functools import lru_cache

import pytest
from conftest import ROOT

FOLDERS = ("media", "networks", "running", "reporting")
SCRIPTS = sorted(path.name for path in ROOT.glob("0*.py"))
FILES = [*SCRIPTS, "common.py"]
FILES += sorted(str(p.relative_to(ROOT)) for name in FOLDERS for p in (ROOT / name).glob("*.py"))
MODULE_FILES = [name for name in FILES if "/" in name and not name.endswith("__init__.py")]
# Definitions of flags, which are help texts, are not counted.
FLAGS = ("parse_args", "add_system_flags")
LONG_FUNCTIONS = ("main", "train", "adapt")
# Lines of code in scripts, common.py and modules; modules; lines of tests and of benchmarks.
WHOLE, MODULES, TESTS, BENCH = 5825, 20, 9850, 1305


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@lru_cache
def parse(name):
    return ast.parse(read(name))


@lru_cache
def count_code(name):
    """Lines of a file that hold code: no blank lines, comments, docstrings or flags."""
    left_out = set()
    for part in ast.walk(parse(name)):
        if isinstance(part, ast.FunctionDef) and part.name in FLAGS:
            left_out.update(range(part.lineno, part.end_lineno + 1))
        documented = isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(part):
            left_out.update(range(part.body[0].lineno, part.body[0].end_lineno + 1))
    lines = enumerate(read(name).split("\n"), 1)
    return sum(n not in left_out and not re.match(r"\s*(#|$)", line) for n, line in lines)


def limit_of(name):
    if name == "common.py":
        return 220
    return 360 if name in SCRIPTS else 280


@lru_cache
def imports(name):
    """The modules of the project that a file imports, wherever in it, as paths."""
    found = set()
    for node in ast.walk(parse(name)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            modules = [node.args[0].value]
        found.update(module.replace(".", "/") + ".py" for module in modules)
    return found & set(FILES)


def test_the_top_level_holds_the_scripts_and_common():
    assert SCRIPTS == [f"0{k}_{name}.py" for k, name in enumerate(
        ("make_demo_videos", "extract_faces", "pretrain_extractor", "extract_features",
         "train_bpdann", "train_clrnet", "evaluate", "detect"))]  # fmt: skip
    assert {path.name for path in ROOT.glob("*.py")} == {*SCRIPTS, "common.py"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_can_be_read_in_one_sitting(name):
    assert count_code(name) <= limit_of(name)


@pytest.mark.parametrize("name", FILES)
def test_a_function_fits_a_page_or_two(name):
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.FunctionDef) and node.name not in FLAGS:
            limit = 120 if node.name in LONG_FUNCTIONS else 80
            assert node.end_lineno - node.lineno + 1 <= limit, f"{name}: {node.name}"


def test_the_whole_is_small():
    assert sum(map(count_code, FILES)) <= WHOLE
    assert len(MODULE_FILES) <= MODULES


@pytest.mark.parametrize("folder, limit", [("tests", TESTS), ("bench", BENCH)])
def test_tests_and_benchmarks_are_small(folder, limit):
    files = (ROOT / folder).glob("*.py")
    assert sum(len(read(file).splitlines()) for file in files) <= limit


def test_arrows_go_one_way():
    """Scripts import folders, folders import common.py.

    No script imports another, but 07 reaches BPDANN in 04 and how a face is taken in 01.
    """
    assert imports("common.py") == set()
    for name in FILES:
        allowed = set()
        if name == "07_detect.py":
            allowed = {"01_extract_faces.py", "04_train_bpdann.py"}
        assert imports(name) & set(SCRIPTS) <= allowed, name


def test_there_is_no_circle():
    graph = {name: imports(name) - {name} for name in FILES}
    while graph:
        leaves = [name for name, used in graph.items() if not used & set(graph)]
        assert leaves, f"a circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def test_every_folder_is_used():
    """A module that nothing imports is dead."""
    assert set(MODULE_FILES) <= set().union(*map(imports, FILES))
