#!/bin/bash
# Brings together what the tests of deployment need on a bare Debian machine, below CACHE:
#     bash deploy/test/prepare.sh CACHE
# Packages are downloaded and unpacked, not installed; each part once. What cannot be had is named
# with its reason, and the tests that need it are skipped. Where Docker runs already, that is used.
set -uo pipefail
cache=$(mkdir -p "$1" && cd "$1" && pwd)

part() { # part NAME FILE COMMAND...: make FILE by COMMAND unless it is there
  local name=$1 file=$2; shift 2
  if [ -e "$file" ]; then echo "have    $name"; return; fi
  if "$@" > "$cache/$name.log" 2>&1 && [ -e "$file" ]; then echo "made    $name"
  else echo "LACKING $name: $(tail -n 1 "$cache/$name.log" 2>/dev/null) (all of it: $cache/$name.log)"; fi
}

unpack() { # unpack FOLDER PACKAGE...: Debian packages, without their dependencies
  local folder=$1; shift
  rm -rf "$folder.new" "$folder.debs" && mkdir -p "$folder.new" "$folder.debs" || return 1
  (cd "$folder.debs" && apt-get -o APT::Sandbox::User=root download "$@") || return 1
  local package
  for package in "$folder.debs"/*.deb; do dpkg -x "$package" "$folder.new" || return 1; done
  rm -rf "$folder.debs" && mv "$folder.new" "$folder"
}

source_of() { awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources; }

engine() { # the engine, and the iptables that it wants for bridges
  unpack "$cache/docker" docker.io containerd runc tini iptables libip4tc2 libip6tc2 libxtables12 \
    libmnl0 libnftnl11 libnetfilter-conntrack3 libnfnetlink0 || return 1
  ln -s xtables-nft-multi "$cache/docker/usr/sbin/iptables"
}

base_image() { # a root file system with Python: what python:3.11-slim is elsewhere
  unpack "$cache/debootstrap" debootstrap || return 1
  rm -rf "$cache/base.new"
  DEBOOTSTRAP_DIR=$cache/debootstrap/usr/share/debootstrap \
    "$cache/debootstrap/usr/sbin/debootstrap" --variant=minbase \
    --include=ca-certificates,python3,python3-venv bookworm "$cache/base.new" "$(source_of)" || return 1
  rm -rf "$cache"/base.new/var/cache/apt/archives/*.deb "$cache"/base.new/var/lib/apt/lists/*
  mv "$cache/base.new" "$cache/base"
}

compose() { # the plugin, a static binary, from the release after bookworm; apt's own state is left alone
  local apt=$cache/apt
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" && : > "$apt/status" || return 1
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(source_of) trixie main" \
    > "$apt/sources.list"
  cat > "$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
APT::Sandbox::User "root";
CONF
  APT_CONFIG=$apt/apt.conf apt-get update || return 1
  APT_CONFIG=$apt/apt.conf unpack "$cache/compose" docker-compose
}

echo "Parts for the tests of deployment, in $cache:"
if ! command -v apt-get > /dev/null; then
  echo "LACKING everything: no apt-get; install Docker, prometheus and kubectl yourself"
  exit 0
fi
part prometheus "$cache/prometheus/usr/bin/promtool" unpack "$cache/prometheus" prometheus
if docker info > /dev/null 2>&1; then echo "have    docker (running)"; exit 0; fi
if ! unshare --mount true 2> /dev/null; then
  echo "LACKING docker: no daemon answers, and unshare needs root to start one of our own"
  exit 0
fi
part docker "$cache/docker/usr/sbin/iptables" engine
part base-image "$cache/base/usr/bin/python3" base_image
part compose "$cache/compose/usr/libexec/docker/cli-plugins/docker-compose" compose
