#!/bin/bash
# Docker Engine from the unpacked packages of prepare.sh, as long as this process lives. Nothing is
# installed, and mounts and networks stay in namespaces of their own:
#     unshare --mount [--net] bash deploy/test/engine.sh CACHE host|own
#         host   shares the machine's network and cannot publish ports: for builds
#         own    bridges and published ports inside a new network namespace: for runs
set -euo pipefail
cache=$1 network=$2
export PATH=$cache/docker/usr/bin:$cache/docker/usr/sbin:$PATH
# Engines refuse the mixture of both generations of cgroups that some machines mount.
umount /sys/fs/cgroup/unified 2>/dev/null || true
flags=()
if [ "$network" = own ]; then
  ip link set lo up
  libraries=$(echo "$cache"/docker/usr/lib/*-linux-gnu) # of the unpacked iptables
  export LD_LIBRARY_PATH=$libraries XTABLES_LIBDIR=$libraries/xtables
else
  flags=(--iptables=false --ip-masq=false --ip-forward=false --bridge=none)
fi
mkdir -p "$cache/engine"
exec dockerd --host "unix://$cache/engine/docker.sock" --data-root "$cache/engine/data" \
  --exec-root "$cache/engine/exec" --pidfile "$cache/engine/docker.pid" \
  --storage-driver overlay2 "${flags[@]}"
