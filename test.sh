#!/usr/bin/env bash
# Make the environment, check the layout of the code, and run the tests.
#
#   ./test.sh              all tests that are not marked slow
#   ./test.sh --all        all tests
#   ./test.sh -k parity    other arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements-test.txt
# MTCNN: the package's own pins would replace torch by an old one, so no requirements file names it.
python -m pip show --quiet facenet-pytorch 2>/dev/null ||
    python -m pip install --disable-pip-version-check --quiet --no-deps facenet-pytorch==2.6.0

ruff format --check --quiet . || { echo "error: run ruff format" >&2; exit 1; }
ruff check --quiet .

marked="not slow"
if [ "${1:-}" = --all ]; then
    marked=""
    shift
fi
# One test process per core, each with one thread. They take groups of tests in the order of
# tests/conftest.py, the longest first.
export OMP_NUM_THREADS=1
processes=$(python -c 'from joblib import cpu_count; print(min(4, cpu_count()))')
exec python -m pytest -n "$processes" --dist loadgroup --no-loadscope-reorder -m "$marked" "$@"
