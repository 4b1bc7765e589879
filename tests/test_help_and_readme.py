"""Each script has a cheap --help; commands and links in the README and docs are right."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, stage

SCRIPTS = sorted(path.name for path in ROOT.glob("0*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING_PAGES = [*PAGES, ROOT / "bench/RESULTS.md", ROOT / "CONTRIBUTING.md"]
HEAVY = ("torchvision", "pretrainedmodels", "sklearn", "scipy", "matplotlib", "dlib")
HEAVY += ("imageio_ffmpeg",)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_cheap_and_readable(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        f"try: runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('LOADED', sorted({set(HEAVY)!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
    assert f"python {script}" in done.stdout and "--out" in done.stdout
    assert len(done.stdout.splitlines()) <= 110


def end_of(line, monkeypatch):
    """What ends a command that is called in this process: an error's text, or a number."""
    words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        stage(words[0].removesuffix(".py")).main()
    return end.value.code


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_arguments_is_a_usage_line(script, monkeypatch, capsys):
    assert end_of(script, monkeypatch) == 2 and "usage:" in capsys.readouterr().err


def test_a_flag_that_was_removed_is_named_with_the_way_out(monkeypatch, capsys):
    for line, error in (
        ("04_train_bpdann.py --source a --target b --out c --scores d --end-to-end", "train_dann"),
        ("02_pretrain_extractor.py --faces a --out b --save-every=3", "--save-every was removed"),
        ("02_pretrain_extractor.py --faces a --out b --unknown", "unrecognized"),
    ):
        assert end_of(line, monkeypatch) == 2 and error in capsys.readouterr().err


# ---------------------------------------------------------------- commands and links


def commands(page):
    """Each `python 0N_...` or `torchrun ... 0N_...` line of a page, from the script on."""
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        prefix = r"\s*(\$ )?([A-Z_]+=\S+ )*(python|torchrun .*?) ?"
        if match := re.match(prefix + r"(0\d_\w+\.py[^|]*)", line):
            yield shlex.join(shlex.split(match[4], comments=True))


def test_the_readme_has_a_command_of_each_script():
    assert {line.split()[0] for line in commands(ROOT / "README.md")} == set(SCRIPTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page, tmp_path, monkeypatch):
    """Each command, whose folders do not exist, fails for a missing folder and not for a flag."""
    monkeypatch.chdir(tmp_path)
    for line in commands(page):
        if not line.startswith("00"):
            # A flag that does not exist ends with the number 2.
            assert ": error: " in str(end_of(line, monkeypatch)), line


def without_code(text):
    """A page without its code: neither blocks nor `spans` contain links or headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^( {4}|\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them of headings that differ."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    # The text of a link counts, not its target.
    headings = re.sub(
        r"\[([^]]*)\]\([^)]*\)", r"\1", "\n".join(re.findall(r"^#+ +(.*)", text, re.M))
    )
    return set(re.sub(r"[^\w\- \n]", "", headings.lower()).replace(" ", "-").split("\n"))


def links(page):
    """The targets of all links and pictures of a page, those of other hosts left out."""
    text = without_code(page.read_text(encoding="utf-8"))
    # [text](target), ![text](target "title"), [name]: target, and HTML.
    targets = re.findall(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)", text)
    targets += re.findall(r"^\[[^]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    targets += re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


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
