"""What README, docs and comments say: no withdrawn claim, no flag or file that does not exist."""

import re

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("docs", "media", "networks", "running", "training", "reporting", "recipes", "bench")
TEXTS = [path for path in ROOT.iterdir() if path.suffix in (".py", ".sh", ".md")]
TEXTS += [path for name in FOLDERS for path in (ROOT / name).glob("*.*")]
TEXTS = sorted(path for path in TEXTS if path.suffix in (".py", ".sh", ".md", ".html", ".js"))

# Claims that rested on one seed on one machine, or that left out a comparison of the paper.
WITHDRAWN = ("no rival", "9.5 points", "ahead in all three", "ahead in five of five")
# What nobody would say at a desk.
UNIDIOMATIC = ("Gf makes of", "speaks for", "speak for", "at most so many", "so many times as fast")
UNIDIOMATIC += ("videos is nearer", "can run so", "finished and is gone", "this process lives")
UNIDIOMATIC += ("drawn blindly", "process is at work", "put all of them", "without their labels")
UNIDIOMATIC += ("a warning says so", "small copies of the data sets")
# Flags of other programs, and one that argparse adds.
OTHERS_FLAGS = "nproc-per-node nnodes node-rank master-addr master-port nodes ntasks-per-node "
OTHERS_FLAGS += (
    "shm-size gpus-per-node cpus-per-task no-deps no-binary force-reinstall check fix all help"
)


def one_line(path):
    """A text without line breaks and the comment signs that follow them."""
    return re.sub(r"\s+(# )?", " ", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_withdrawn_claims_and_odd_phrases_stay_away(path):
    # They say what was withdrawn, and what was printed.
    phrases = {"CHANGELOG.md": (), "RESULTS.md": WITHDRAWN}.get(path.name, WITHDRAWN + UNIDIOMATIC)
    text = one_line(path)
    assert [phrase for phrase in phrases if phrase in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_files_and_recipes_exist(page):
    """Each --flag of a page is a flag of some program here, and each path is a file."""
    programs = [*ROOT.glob("*.py"), *ROOT.glob("bench/*.py"), *ROOT.glob("recipes/*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in programs)
    text = page.read_text(encoding="utf-8")
    flags = set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text)) - set(OTHERS_FLAGS.split())
    assert sorted(flag for flag in flags if f'"--{flag}"' not in source) == []
    names = re.findall(rf"\b(?:{'|'.join(FOLDERS)}|tests)/\w+\.(?:py|sh|md|html|css|js)\b", text)
    names += re.findall(r"`(\w+\.sh|0\d_\w+\.py)", text)
    missing = [n for n in names if not (ROOT / n).exists() and not (ROOT / "recipes" / n).exists()]
    assert sorted(set(missing)) == []


LONG_LINES = [*PAGES, ROOT / "CHANGELOG.md", *(path for path in TEXTS if path.suffix == ".sh")]


@pytest.mark.parametrize("page", LONG_LINES, ids=lambda page: page.name)
def test_lines_are_at_most_100_columns(page):
    """But for tables, commands, links to pictures and addresses."""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 100]
    assert [line for line in long if not re.match(r"\| | {4}|!\[|.*https?://", line)] == []
