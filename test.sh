#!/usr/bin/env bash
# Make the environment and run the tests; arguments go to pytest, e.g. ./test.sh -k parity
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements-test.txt
exec python -m pytest "$@"
