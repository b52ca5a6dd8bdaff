# What .ci/run and .ci/nightly share. Sourced by both, after they have set `root`, `work` and `tree`.

in_tree() { (cd "$tree" && "$@"); }

find_python() { # find_python 3.12: print the path of an interpreter that runs; fail if there is none
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

first_python() { # print the oldest supported interpreter that is here
    local version
    for version in 3.11 3.12 3.13 3.14 3.15; do
        if find_python "$version"; then return; fi
    done
    echo "no Python from 3.11 on is here, and none could be installed" >&2
    return 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

debian_packages() { # what tests use beside Python: strace, a browser, a database, a voice. Without one, its tests skip
    local missing=()
    command -v strace >/dev/null || missing+=(strace)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v espeak-ng >/dev/null || missing+=(espeak-ng)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v pgbouncer >/dev/null || missing+=(pgbouncer)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    first_python >/dev/null 2>&1 || missing+=(python3 python3-venv)
    if [ "${#missing[@]}" = 0 ]; then
        echo "nothing is missing"
    elif as_root true 2>/dev/null && command -v apt-get >/dev/null; then
        echo "installing ${missing[*]}"
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "NOT installed, for want of root: ${missing[*]}"
    fi
}

copy_tree() {
    mkdir -p "$tree"
    if git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$root" && git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
            if [ -e "$file" ]; then printf '%s\0' "$file"; fi
        done | tar --null -T - -cf -) | tar -C "$tree" -xf -
    else
        cp -a "$root/." "$tree"
    fi
}
