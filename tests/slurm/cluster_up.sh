#!/usr/bin/env bash
# cluster_up.sh DIR [HOSTS [PROCESSORS]]: a real SLURM cluster on this machine, for tests.
#
# Each host is a slurmd in a network, host-name and mount namespace of its own, with its own /tmp
# (the PMIx servers of several hosts would else collide there) and its own /etc/hosts; a bridge
# joins them. slurmctld and a munged with a key of its own stand outside, at the bridge's address.
# Everything lies in DIR, which every host sees; nothing of the machine's own SLURM, munge or
# /etc/hosts is touched. Needs root, slurmctld, slurmd, slurm-client, munge and iproute2.
#
# Then: export SLURM_CONF=DIR/slurm.conf; sbatch, srun, squeue ... Ends by cluster_down.sh DIR.
# Partitions: low (can be preempted: requeue, grace 20 s) and high.
set -euo pipefail

dir=$(realpath -m "$1") hosts=${2:-4} processors=${3:-2}
prefix=mth bridge=mtbridge network=10.78.0
if ip link show "$bridge" >/dev/null 2>&1; then
    echo "cluster_up.sh: $bridge is there already; is another cluster up? (cluster_down.sh DIR)" >&2
    exit 1
fi
mkdir -p "$dir"/{state,spool,log,run,key}
echo "$hosts" >"$dir/hosts_count"

dd if=/dev/urandom of="$dir/key/munge.key" bs=1024 count=1 status=none
chmod 700 "$dir/key" && chmod 400 "$dir/key/munge.key"
munged --force --key-file="$dir/key/munge.key" --socket="$dir/run/munge.socket" \
    --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" \
    --seed-file="$dir/key/munge.seed" 2>>"$dir/log/munged.err"

ip link add "$bridge" type bridge
ip addr add "$network.254/24" dev "$bridge"
ip link set "$bridge" up
{
    echo "127.0.0.1 localhost"
    echo "$network.254 $(hostname)"
    for i in $(seq "$hosts"); do echo "$network.$i $prefix$i"; done
} >"$dir/hosts"

cat >"$dir/slurm.conf" <<END
ClusterName=mttest
SlurmctldHost=$(hostname)($network.254)
SlurmUser=root
AuthType=auth/munge
# The life of a credential (5 s at least) is also the time that a requeued job must wait.
AuthInfo=socket=$dir/run/munge.socket,cred_expire=5
SlurmctldPort=16817
SlurmdPort=16818
MpiDefault=pmix
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmdSpoolDir=$dir/spool/%n
StateSaveLocation=$dir/state
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
SlurmdTimeout=15
TCPTimeout=2
MessageTimeout=5
MinJobAge=600
NodeName=${prefix}[1-$hosts] NodeAddr=${network}.[1-$hosts] CPUs=$processors RealMemory=1000
PartitionName=low Nodes=${prefix}[1-$hosts] Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=20
PartitionName=high Nodes=${prefix}[1-$hosts] MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
END

export SLURM_CONF=$dir/slurm.conf
for i in $(seq "$hosts"); do
    name=$prefix$i
    ip netns add "$name"
    ip link add "v$name" type veth peer name eth0 netns "$name"
    ip link set "v$name" master "$bridge" up
    ip -n "$name" addr add "$network.$i/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    mkdir -p "$dir/spool/$name" "$dir/tmp-$name"
    chmod 1777 "$dir/tmp-$name"
    # shellcheck disable=SC2016  # expanded in the new namespaces
    env name="$name" dir="$dir" nsenter --net="/run/netns/$name" unshare --mount --uts -- bash -c '
        set -e
        hostname "$name"
        mount --make-rprivate /
        mount --bind "$dir/tmp-$name" /tmp
        mount --bind "$dir/hosts" /etc/hosts
        exec slurmd -N "$name"' </dev/null >>"$dir/log/start.log" 2>&1
done
slurmctld >>"$dir/log/start.log" 2>&1
for _ in $(seq 100); do
    sleep 0.2
    idle=$(sinfo -h -p low -t idle -o %D 2>/dev/null | head -n 1)
    [ "$idle" != "$hosts" ] || exit 0
done
echo "cluster_up.sh: only ${idle:-0} of $hosts hosts came up; see $dir/log" >&2
exit 1
