"""Run a stage that saves last.pt after every step: python tests/often.py 02_... ARGUMENTS."""

import os
import runpy
import sys

sys.argv = sys.argv[1:]
sys.argv[0] = os.path.join(os.path.dirname(__file__), os.pardir, sys.argv[0])
sys.path.insert(0, os.path.dirname(sys.argv[0]))

import running.run  # noqa: E402

running.run.SAVE_SECONDS = 0
runpy.run_path(sys.argv[0], run_name="__main__")
