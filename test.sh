#!/usr/bin/env bash
# Make the environment and run the tests; arguments go to pytest, e.g. ./test.sh -k parity
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements-test.txt
# MTCNN: the package's own pins would replace torch by an old one, so it cannot stand in a requirements file.
python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("facenet_pytorch") is None)' ||
    python -m pip install --disable-pip-version-check --quiet --no-deps facenet-pytorch==2.6.0
# A test process a core and one more, since they often wait, each with one thread, a file of tests at a time; the longest files come first (conftest.py).
export OMP_NUM_THREADS=1
exec python -m pytest -n "$(python -c 'from joblib import cpu_count; print(min(4, cpu_count() + 1))')" --dist loadscope --no-loadscope-reorder "$@"
