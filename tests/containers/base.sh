#!/usr/bin/env bash
# Makes a stand-in for an official image out of Debian packages, where no image registry can be reached:
# tests/containers/base.sh NAME PACKAGE... Needs root, debootstrap and podman.
#
# This machine's own certificate authorities go into the stand-in, so that pip inside a build trusts what pip outside
# trusts. They never go into the Dockerfile: an image must not bring somebody's private trust along.
set -euo pipefail

name=$1
packages=$(IFS=, && echo "${*:2}")
root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT
bundle=/etc/ssl/certs/ca-certificates.crt

debootstrap --variant=minbase --include="ca-certificates,$packages" bookworm "$root"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
# Where Redis keeps its data in the official image, by the number of its user there: a new volume takes over both.
[[ $packages != *redis-server* ]] || install -d -o 999 -g 999 "$root/data"
if [ -r "$bundle" ]; then install -m 644 "$bundle" "$root$bundle"; fi
tar --directory "$root" --create . | podman import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change "ENV PIP_CERT=$bundle" --change "ENV SSL_CERT_FILE=$bundle" --change 'CMD ["sh"]' - "$name"
