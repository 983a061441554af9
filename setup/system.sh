# What the machine itself must bring: a Python, a compiler, libxc and BLAS; optionally MPI, ScaLAPACK and FFTW for GPAW.
# Sourced by install.sh, which defines say, fail and log. Found by trying (does it run, does it link), not by package
# names, so that libraries from modules, conda or a local prefix count as well.

readonly python_oldest=11 python_newest=14 # of Python 3
readonly -A package_of=(
    [compiler]=g++ [xc]=libxc-dev [blas]=libopenblas-dev
    [mpi]="openmpi-bin libopenmpi-dev" [scalapack]=libscalapack-openmpi-dev [fftw]=libfftw3-dev
)
readonly mandatory="compiler xc blas" optional="mpi scalapack fftw"

# "3.11" for an interpreter that runs, nothing for one that does not (such as a pyenv shim without its version).
python_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

version_fits() {
    [[ $1 == 3.* ]] && ((${1#3.} >= python_oldest && ${1#3.} <= python_newest))
}

# Complete: with venv, pip (ensurepip) and Python.h, which GPAW is compiled against.
python_is_complete() {
    "$1" -c 'import ensurepip, os, sys, sysconfig, venv
sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

# Sets: python (path of a complete one, or ""), incomplete (version of one that fits but lacks parts), pythons_seen.
# PYTHON=... in the environment restricts the search to that one.
find_python() {
    local candidate version
    local candidates=(python3.11 python3.12 python3.13 python3.14 python3)
    python="" incomplete="" pythons_seen=""
    [[ -n ${PYTHON:-} ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null || continue
        version=$(python_version "$candidate")
        [[ -n $version ]] || continue
        pythons_seen+="${pythons_seen:+, }$(command -v "$candidate") ($version)"
        version_fits "$version" || continue
        if python_is_complete "$candidate"; then
            python=$("$candidate" -c 'import sys; print(sys.executable)')
            return
        fi
        incomplete=${incomplete:-$version}
    done
}

# Packages that make a complete Python: the missing parts of one that is there, else the newest the distribution offers.
python_packages() {
    local minor
    if [[ -n $incomplete ]]; then
        echo "python$incomplete-venv python$incomplete-dev"
        return
    fi
    for ((minor = python_newest; minor >= python_oldest; minor--)); do
        if apt-cache show "python3.$minor-venv" >/dev/null 2>&1; then
            echo "python3.$minor python3.$minor-venv python3.$minor-dev"
            return
        fi
    done
    echo "python3 python3-venv python3-dev"
}

# The probe's line reads "compiler=g++ xc=none ...".
is_found() {
    [[ " $2 " == *" $1="* && " $2 " != *" $1=none "* ]]
}

# Sets missing_mandatory and missing_optional (keys of package_of) by compiling small programs. Any Python can do that;
# without one, everything counts as missing.
find_libraries() {
    local found="" key
    missing_mandatory="" missing_optional=""
    found=$("${python:-python3}" "$here/gpaw_siteconfig.py" --probe 2>>"$log") || true
    for key in $mandatory; do
        is_found "$key" "$found" || missing_mandatory+=" $key"
    done
    [[ ${MPI:-yes} == no ]] && return
    for key in $optional; do
        is_found "$key" "$found" || missing_optional+=" $key"
    done
    return 0
}

packages_for() {
    local key
    for key in "$@"; do
        echo "${package_of[$key]}"
    done | tr '\n' ' '
}

# Runs a command as root: directly, or through sudo where that asks no password.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null && { ((EUID == 0)) || sudo -n true 2>/dev/null; }
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" \
        </dev/null >>"$log" 2>&1
}

# The one line that a user without rights is asked to run or to pass on.
apt_line() {
    local sudo="sudo "
    ((EUID == 0)) && sudo=""
    echo "${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends $*"
}

describe_missing() {
    local text=""
    [[ -z $python ]] && text="a Python 3.$python_oldest to 3.$python_newest with venv and headers (found: ${pythons_seen:-none})"
    [[ -n $missing_mandatory ]] && text+="${text:+; }for GPAW:$missing_mandatory"
    echo "$text"
}

# Makes sure of the above: installs what is missing where it may, else prints one line to run. Exit 2 if the machine
# stays without something that is mandatory. Leaves python set.
ensure_system() {
    local packages extra
    find_python
    find_libraries
    if [[ -z $python || -n "$missing_mandatory$missing_optional" ]] && may_install; then
        say "installing system packages (missing:${missing_mandatory}${missing_optional}$([[ -n $python ]] || echo ' python'))"
        as_root apt-get -o DPkg::Lock::Timeout=300 update </dev/null >>"$log" 2>&1 || say "apt-get update failed; trying with the lists at hand"
        packages=$([[ -n $python ]] || python_packages)
        # shellcheck disable=SC2046,SC2086  # lists of words
        set -- $packages $(packages_for $missing_mandatory)
        if (($#)); then apt_install "$@" || say "apt-get could not install: $*"; fi
        extra=$(packages_for $missing_optional)
        # shellcheck disable=SC2086
        if [[ -n ${extra// /} ]]; then apt_install $extra || say "apt-get could not install the optional: $extra"; fi
        hash -r
        find_python
        find_libraries
    fi
    # shellcheck disable=SC2046,SC2086
    set -- $([[ -n $python ]] || python_packages) $(packages_for $missing_mandatory $missing_optional)
    if [[ -z $python || -n $missing_mandatory ]]; then
        if command -v apt-get >/dev/null; then
            fail 2 "This machine lacks $(describe_missing)." "run this line, then make again:" "  $(apt_line "$@")"
        fi
        fail 2 "This machine lacks $(describe_missing), and has no apt-get." \
            "install the equivalents of these Debian packages, then make again (PYTHON=/path/to/python3.11 chooses one):" "  $*"
    fi
    if [[ -n $missing_optional ]]; then
        say "optional:$missing_optional missing; GPAW will work, but each label on fewer cores or without fd/pw on several."
        if command -v apt-get >/dev/null; then say "          to have them: $(apt_line "$@") && make setup"; fi
    fi
    return 0
}
