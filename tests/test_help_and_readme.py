"""Each script has a cheap --help; commands and links in the README and docs are right."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, command, run_forked, stage

SCRIPTS = sorted(path.name for path in ROOT.glob("0*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING_PAGES = [*PAGES, ROOT / "bench/RESULTS.md"]
if (ROOT / "CONTRIBUTING.md").exists():
    LINKING_PAGES.append(ROOT / "CONTRIBUTING.md")
HEAVY = {
    "torchvision",
    "pretrainedmodels",
    "sklearn",
    "scipy",
    "matplotlib",
    "dlib",
    "imageio_ffmpeg",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_cheap_and_readable(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('LOADED', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
    assert f"python {script}" in done.stdout and "--out" in done.stdout
    assert len(done.stdout.splitlines()) <= 110


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_runs_on_import(script):
    stage(script.removesuffix(".py"))


def test_no_arguments_is_a_usage_line():
    for script in SCRIPTS:
        status, _, errors = run_forked(command(script)[1:])
        assert status == 2 and "usage:" in errors and "Traceback" not in errors


# ---------------------------------------------------------------- commands and links


def commands(page):
    """The script and arguments of each `python 0N_...` or `torchrun ... 0N_...` line of a page."""
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if re.match(r"\s*(\$ )?([A-Z_]+=\S+ )*(python|torchrun .*?) ?0\d_\w+\.py", line):
            words = shlex.split(line, comments=True)
            first = next(k for k, word in enumerate(words) if re.match(r"0\d_\w+\.py$", word))
            # A pipe is the shell's.
            last = words.index("|") if "|" in words else len(words)
            yield words[first:last]


def test_the_readme_has_a_command_of_each_script():
    assert {words[0] for words in commands(ROOT / "README.md")} == set(SCRIPTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, tmp_path, monkeypatch):
    """Each command, whose folders do not exist, fails for a missing folder and not for a flag."""
    monkeypatch.chdir(tmp_path)
    for words in commands(page):
        if words[0].startswith("00"):
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            stage(words[0].removesuffix(".py")).main()
        # A flag that does not exist ends with the number 2.
        assert ": error: " in str(end.value.code), words


def without_code(text):
    """A page without its code: neither blocks nor `spans` contain links or headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^( {4}|\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#+ +(.*?) *#*$", text, flags=re.MULTILINE):
        # The text of a link counts, not its target.
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 1
        while anchor in found:
            anchor = f"{anchor.removesuffix(f'-{number - 1}')}-{number}"
            number += 1
        found.add(anchor)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def links(page):
    """The targets of all links and pictures of a page, those of other hosts left out."""
    text = without_code(page.read_text(encoding="utf-8"))
    # [text](target), ![text](target "title"), [name]: target, and HTML.
    targets = re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", text)
    targets += re.findall(r"^\[[^]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    targets += re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# How fast?\n## `01`, in [short](x.md)\n## Twice\n## Twice\n## A_b - c\n")
    assert anchors(page) == {"how-fast", "01-in-short", "twice", "twice-1", "a_b---c"}
    page.write_text('![a](b.png "c") [d](e.md#f) `[g](h)` [i](https://j)\n    [k](l)\n[m]: n\n')
    assert links(page) == ["b.png", "e.md#f", "n"]


@pytest.mark.parametrize("page", LINKING_PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    """Files exist, with the spelling of the link; headings too."""
    wrong = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            wrong.append(target)
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []
