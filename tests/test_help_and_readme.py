"""Every script: a cheap --help; every command of the README takes the flags it is given."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, stage

SCRIPTS = sorted(path.name for path in ROOT.glob("0*.py"))
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
        done = subprocess.run([sys.executable, ROOT / script], capture_output=True, text=True)
        assert done.returncode == 2 and "usage:" in done.stderr and "Traceback" not in done.stderr


def test_commands_in_the_readme_parse(tmp_path, monkeypatch, capsys):
    """Each `python 0N_...` line of the README, with its folders made up, fails for the missing folder and not for a flag."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    commands = [
        shlex.split(line.strip()) for line in text.splitlines() if re.match(r"\s*python 0\d_", line)
    ]
    assert {words[1] for words in commands} == set(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    for words in commands:
        if words[1].startswith("00"):
            continue
        monkeypatch.setattr(sys, "argv", words[1:])
        with pytest.raises(SystemExit) as end:
            stage(words[1].removesuffix(".py")).main()
        assert ": error: " in str(end.value.code), (
            words,
            capsys.readouterr().err,
        )  # a flag that is none ends with the number 2
