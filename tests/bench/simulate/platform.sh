#!/usr/bin/env bash
# platform.sh HOSTS BYTES_PER_S LATENCY_S CORES [OVERSUBSCRIBED]: a cluster for SimGrid, on standard
# output.  Hosts hang on switches of up to 32 ports; the switches are joined by a second row which
# carries all their ports at once, or that many times less.  LATENCY_S is that between two hosts of
# different switches.
set -euo pipefail
hosts=$1 bytes=$2 latency=$3 cores=$4 less=${5:-1}
leaf=$((hosts < 32 ? hosts : 32))
spines=$((leaf / less > 0 ? leaf / less : 1))
cat <<EOF
<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <zone id="all" routing="Full">
    <cluster id="cluster" prefix="host" suffix="" radical="0-$((hosts - 1))" speed="100Gf"
             core="$cores" bw="${bytes}Bps" lat="$(awk "BEGIN { print $latency / 4 }")s"
             topology="FAT_TREE" topo_parameters="2;$leaf,$((hosts / leaf));1,$spines;1,1"
             loopback_bw="10GBps" loopback_lat="0.3us"/>
  </zone>
</platform>
EOF
