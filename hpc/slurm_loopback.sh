#!/usr/bin/env bash
# A real Slurm on this one machine, for tests: nodes cpu1 and gpu1 in partitions cpu, gpu (two fake GPUs) and all.
#
#   hpc/slurm_loopback.sh start DIR     then: export SLURM_CONF=DIR/slurm.conf
#   hpc/slurm_loopback.sh stop DIR      ends its jobs and daemons, and nothing that it did not start
#
# DIR holds everything (configuration, state, logs); all ports are on 127.0.0.1. It needs root and Debian's packages:
#   apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
# No systemd, no cgroups, no accounting. Exit status 0: done; 3: cannot run here (the reason is said); 1: failed.
set -euo pipefail

cannot() { echo "slurm_loopback: $1" >&2; exit 3; }
failed() { echo "slurm_loopback: $1" >&2; tail -n 5 "$DIR"/log/*.log >&2 2>/dev/null || true; exit 1; }

[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
case $DIR in *[!A-Za-z0-9_./-]*) cannot "the folder's path may hold letters, digits and _ . / - only: $DIR" ;; esac
export SLURM_CONF=$DIR/slurm.conf

# Start of a process in clock ticks, which tells it from a later one with the same number.
ticks() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# Starts a daemon in a session of its own and notes it down.
daemon() {
    setsid "$@" </dev/null >>"$DIR/log/start.log" 2>&1 &
    echo "$! $(ticks $!)" >>"$DIR/pids"
}

# The first of three ports that are free now.
free_ports() {
    local base port
    for _ in $(seq 50); do
        base=$((20000 + RANDOM % 10000))
        for port in $base $((base + 1)) $((base + 2)); do
            (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        done
        echo $base
        return
    done
    failed "no free ports on 127.0.0.1"
}

configure() {
    local host port
    host=$(hostname -s)
    port=$(free_ports)
    for i in 0 1; do
        [ -c "$DIR/gpu$i" ] || mknod "$DIR/gpu$i" c 1 3 || cannot "this container may not make device files (mknod)"
    done
    # The configuration's NVIDIA flag has Slurm set CUDA_VISIBLE_DEVICES, as for real ones.
    echo "NodeName=gpu1 Name=gpu File=$DIR/gpu[0-1] Flags=nvidia_gpu_env" >"$DIR/gres.conf"
    cat >"$SLURM_CONF" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthInfo=socket=$DIR/munge/socket
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=5
MpiDefault=none
NodeName=cpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=8 RealMemory=4000
NodeName=gpu1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=8 RealMemory=4000 Gres=gpu:2
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=gpu1 MaxTime=60 State=UP
PartitionName=all Nodes=cpu1,gpu1 MaxTime=60 State=UP
CONF
}

start() {
    [ "$(id -u)" = 0 ] || cannot "needs root (slurmd starts the jobs of other users)"
    for program in munged slurmctld slurmd sbatch squeue; do
        command -v $program >/dev/null || cannot "$program is missing: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
    done
    [ ! -s "$DIR/pids" ] || failed "already started in $DIR; stop it first"
    mkdir -p "$DIR"/{state,log,munge}
    configure
    [ -s "$DIR/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$DIR/munge/key")
    chown -R munge: "$DIR/munge"
    chmod 755 "$DIR" "$DIR/munge"
    setpriv --reuid munge --regid munge --clear-groups test -x "$DIR/munge" ||
        cannot "the user munge cannot reach $DIR: give a folder whose parents others may enter, such as one in /tmp"
    daemon setpriv --reuid munge --regid munge --clear-groups munged --force --foreground --num-threads 2 \
        --key-file "$DIR/munge/key" --socket "$DIR/munge/socket" --pid-file "$DIR/munge/pid" \
        --log-file "$DIR/munge/log" --seed-file "$DIR/munge/seed"
    for _ in $(seq 200); do [ -S "$DIR/munge/socket" ] && break; sleep 0.1; done
    [ -S "$DIR/munge/socket" ] || failed "munged did not start"
    daemon slurmctld -D
    for node in cpu1 gpu1; do daemon slurmd -D -N $node; done
    for _ in $(seq 300); do
        if [ "$(sinfo -h -N -p all -o %T 2>/dev/null | grep -c '^idle$')" = 2 ]; then
            echo "Slurm is up; export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    failed "Slurm did not come up within 60 s"
}

stop() {
    [ -s "$DIR/pids" ] || { echo "nothing was started in $DIR"; return; }
    timeout 20 squeue -h -o %A 2>/dev/null | xargs -r timeout 20 scancel 2>/dev/null || true
    for _ in $(seq 150); do [ -z "$(timeout 20 squeue -h 2>/dev/null)" ] && break; sleep 0.1; done
    for signal in TERM KILL; do
        tac "$DIR/pids" | while read -r pid began; do
            [ "$(ticks "$pid")" != "$began" ] || kill -$signal "$pid" 2>/dev/null || true
        done
        for _ in $(seq 80); do
            alive=$(while read -r pid began; do [ "$(ticks "$pid")" != "$began" ] || echo "$pid"; done <"$DIR/pids")
            [ -z "$alive" ] && break 2
            sleep 0.1
        done
    done
    : >"$DIR/pids"
    echo "Slurm in $DIR has been stopped"
}

case $1 in
    start) start ;;
    stop) stop ;;
    *) echo "slurm_loopback: start or stop, not '$1'" >&2; exit 2 ;;
esac
