# Sourced by demo.sh and test.sh: makes .venv, installs a requirements file if it has changed, and
# puts .venv first in PATH. PYTHON=/path/to/python chooses the interpreter of a new .venv; without
# it, the first of python3, python3.13, 3.12, 3.11 and 3.14 that is 3.11 or newer and has venv.

make_environment() {
    local requirements=$1 stamp=.venv/.installed-$1 python file
    if [ ! -x .venv/bin/python ]; then
        for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
            if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
                2>/dev/null; then break; fi
            python=
        done
        if [ -z "$python" ]; then
            echo "error: no Python 3.11 or newer with venv found (on Debian and Ubuntu:" \
                "apt install python3 python3-venv); PYTHON=/path/to/python chooses one" >&2
            return 1
        fi
        echo "+ $python -m venv .venv"
        rm -rf .venv && "$python" -m venv .venv || return 1
    fi
    if ! cat requirements.txt "$requirements" | cmp -s - "$stamp"; then
        echo "+ pip install -r $requirements    (5.5 GB on Linux, most of it the GPU's libraries;" \
            "a minute or more)"
        .venv/bin/python -m pip install --disable-pip-version-check --quiet -r "$requirements" ||
            return 1
        # Each requirements file includes requirements.txt.
        for file in requirements.txt "$requirements"; do
            cat requirements.txt "$file" > ".venv/.installed-$file"
        done
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
