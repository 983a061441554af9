#!/usr/bin/env bash
# Sets up .venv with everything clusterflow needs. Safe to run again at any time: it continues after an interruption and
# does nothing (in a fraction of a second) when nothing has changed.
#
#   setup/install.sh [--dev]
#
#   --dev           also the tools of `make test`
#   PYTHON=path     use this interpreter (3.11 to 3.14)
#   MPI=no          do not look for MPI
#   TORCH_INDEX=url package index for torch (default: the CPU index of pytorch.org when there is no NVIDIA GPU)
#
# Exit: 0 ready, 1 a step failed (see .venv/setup.log), 2 the machine lacks something and the message says which line to run.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
readonly here venv=.venv log=$PWD/.venv/setup.log
readonly gpaw=gpaw==26.7.0 torch=torch==2.13.0
readonly constraints=setup/constraints.txt
dev=no
[[ ${1:-} == --dev ]] && dev=yes

# A foreign PYTHONPATH (HPC modules) or `pip --user` default would leak into the environment.
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_REQUIRE_VIRTUALENV=0

say() { printf '[%4d s] %s\n' "$SECONDS" "$*" | tee -a "$log"; }

# fail STATUS WHAT TODO [LINE...]
fail() {
    local status=$1 what=$2
    shift 2
    {
        printf '\n%s\n' "$what"
        printf '  next:  %s\n' "$1"
        shift
        (($#)) && printf '%s\n' "$@"
    } | tee -a "$log" >&2
    exit "$status"
}

# step TITLE HINT COMMAND...: one line of progress, all output in the log, its last 20 lines on failure.
step() {
    local title=$1 hint=$2 start=$SECONDS
    shift 2
    printf '[%4d s] %s ...' "$SECONDS" "$title"
    printf '\n[%4d s] %s: %s\n' "$SECONDS" "$title" "$*" >>"$log"
    if "$@" >>"$log" 2>&1 </dev/null; then
        printf ' %d s\n' $((SECONDS - start))
        return
    fi
    printf ' failed after %d s\n\nThe last 20 lines of %s:\n' $((SECONDS - start)) "$log"
    tail -n 20 "$log"
    fail 1 "Setting up failed at: $title." "$hint Then run make again; it continues from here."
}

pip_install() { "$venv/bin/python" -m pip install --constraint "$constraints" "$@"; }

# pip writes INSTALLER last; a package without it was cut off half-way, and pip would take it for installed.
forget_half_installed() {
    local info
    for info in $venv/lib/python*/site-packages/*.dist-info; do
        [[ ! -d $info || -f $info/INSTALLER ]] && continue
        echo "half installed, so again: $info" >>"$log"
        rm -rf "$info"
    done
    rm -rf $venv/lib/python*/site-packages/~*
}

# What the environment depends on; its place too, because the scripts in a venv hold absolute paths.
fingerprint() {
    { pwd; echo "${MPI:-yes} ${PYTHON:-}"; cat pyproject.toml setup/*; } | sha256sum | cut -d' ' -f1
}

ready() {
    local stamp
    stamp=$(fingerprint)
    [[ -x $venv/bin/clusterflow && $(cat $venv/.setup-stamp 2>/dev/null) == "$stamp" ]] || return 1
    [[ $dev == no || $(cat $venv/.setup-stamp-dev 2>/dev/null) == "$stamp" ]]
}

check_disk() {
    local need_MB=$1 free_MB
    free_MB=$(df -Pm . | awk 'NR == 2 { print $4 }')
    ((free_MB >= need_MB)) || fail 2 "$PWD has $free_MB MB free; the environment needs about $need_MB MB." "make room, or clone to a larger disk."
}

# A .venv that works, that was made at this place (its scripts hold absolute paths) and that has the right version stays.
make_venv() {
    local version
    version=$(python_version "$venv/bin/python")
    if version_fits "$version" && [[ -z ${PYTHON:-} || $version == "$(python_version "$python")" ]] &&
        grep -qsF "$PWD/$venv/bin/python" $venv/bin/pip && "$venv/bin/python" -m pip --version >>"$log" 2>&1; then
        return
    fi
    # bin goes last, so that an interrupted removal is seen and continued
    [[ ! -e $venv/bin ]] || step "removing a .venv that is broken, moved or of another Python" "Remove .venv by hand." \
        rm -rf $venv/.setup-* $venv/lib $venv/lib64 $venv/include $venv/share $venv/pyvenv.cfg $venv/bin
    step "creating .venv with $python ($(python_version "$python"))" "The Python at $python cannot make environments." \
        "$python" -m venv $venv
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

reachable() {
    "$venv/bin/python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=4)' "$1" >>"$log" 2>&1
}

# The package on the usual index carries gigabytes of CUDA, which a machine without an NVIDIA GPU cannot use.
install_torch() {
    local cpu_index=https://download.pytorch.org/whl/cpu index=${TORCH_INDEX:-}
    "$venv/bin/python" -c 'import importlib.metadata as m, sys; sys.exit(m.version("torch").split("+")[0] != sys.argv[1])' \
        "${torch#*==}" 2>/dev/null && return
    if [[ -z $index ]] && ! has_gpu && reachable "$cpu_index/torch/"; then index=$cpu_index; fi
    if [[ -z $index ]]; then
        pip_install "$torch"
    else
        pip_install --index-url "$index" "$torch" || pip_install "$torch"
    fi
}

# GPAW is compiled here; again only when what it would be compiled with has changed.
install_gpaw() {
    local config=$venv/gpaw_siteconfig.py options=()
    [[ ${MPI:-yes} == no ]] && options+=(--no-mpi)
    "$venv/bin/python" setup/gpaw_siteconfig.py "$config" "${options[@]}"
    if cmp -s "$config" "$venv/.setup-gpaw" && "$venv/bin/python" -c 'import _gpaw'; then
        echo "compiled with the same configuration already"
        return
    fi
    rm -f $venv/.setup-gpaw
    GPAW_CONFIG=$PWD/$config pip_install --no-cache-dir --no-binary gpaw --force-reinstall --no-deps "$gpaw" || return 1
    pip_install "$gpaw" gpaw-data || return 1
    cp "$config" $venv/.setup-gpaw
}

main() {
    ready && return
    mkdir -p $venv
    exec 9>$venv/.lock
    flock -n 9 || fail 1 "Another set-up is at work in $PWD/$venv." "wait for it to end."
    : >"$log"
    say "setting up $PWD/$venv (details: $venv/setup.log)"
    # shellcheck source=setup/system.sh
    source setup/system.sh
    ensure_system
    check_disk "$(if [[ -f $venv/.setup-stamp ]]; then echo 300; elif has_gpu; then echo 9000; else echo 3000; fi)"
    make_venv
    forget_half_installed
    local net="Is the package index reachable (pip config list, proxy)?"
    step "torch ($(if has_gpu; then echo "for the NVIDIA GPU"; else echo "no NVIDIA GPU: CPU build where there is one"; fi))" "$net" install_torch
    step "Python packages" "$net" pip_install --editable "$(if [[ $dev == yes ]]; then echo '.[dev]'; else echo .; fi)"
    step "GPAW, compiled for this machine" "See whether g++, libxc and BLAS fit together." install_gpaw
    step "checking that every part imports" "Remove .venv if parts of different versions are mixed." \
        "$venv/bin/python" setup/verify.py
    say "$(tail -n 1 "$log")"
    fingerprint >$venv/.setup-stamp
    [[ $dev == no ]] || cp $venv/.setup-stamp $venv/.setup-stamp-dev
    say "ready: $venv/bin/clusterflow"
}

main
