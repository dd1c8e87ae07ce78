#!/usr/bin/env bash
# Makes the image without Docker: a docker-archive with what the Dockerfile's last stage has.
#
#   image.sh BINARY ARCHIVE [NAME:TAG]
#
# The same binary gives the same bytes. The binary must be static, because nothing else is in the image:
#   rustup target add x86_64-unknown-linux-musl
#   cargo build --locked --release -p podpolicy --target x86_64-unknown-linux-musl
# Load the archive with `docker load --input` or `ctr images import`. SOURCE_DATE_EPOCH is the date of all that is in it; 0 by default.
set -euo pipefail

say() { printf 'image.sh: %s\n' "$*" >&2; }

[ $# -ge 2 ] || { say "usage: image.sh BINARY ARCHIVE [NAME:TAG]"; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=$1 archive=$2
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
name=${3:-podpolicy:$version}
epoch=${SOURCE_DATE_EPOCH:-0}
date=$(date --utc --date="@$epoch" +%Y-%m-%dT%H:%M:%SZ)

[ -f "$binary" ] || { say "$binary does not exist"; exit 2; }
[ "$(head -c 4 "$binary" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || { say "$binary is no program for Linux"; exit 2; }
case "$(od -An -tx1 -j18 -N2 "$binary" | tr -d ' ')" in
  3e00) architecture=amd64 ;;
  b700) architecture=arm64 ;;
  *) say "$binary is neither for x86-64 nor for arm64"; exit 2 ;;
esac
# A program that needs others names its loader near its beginning.
if head -c 4096 "$binary" | grep -qa -e '/ld-linux' -e '/ld-musl'; then
  say "$binary needs a dynamic loader, which the image does not have: build it for a musl target"
  exit 2
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/podpolicy-image-XXXXXX")
trap 'rm -rf "$work"' EXIT

# pack ARCHIVE FOLDER FILE...: a tar in which nothing of this machine shows
pack() {
  local into=$1 folder=$2
  shift 2
  LC_ALL=C tar --create --file "$into" --directory "$folder" --format=ustar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner "$@"
}
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

mkdir "$work/files" "$work/image"
install -m 0755 "$binary" "$work/files/podpolicy"
pack "$work/layer.tar" "$work/files" podpolicy
layer=$(digest "$work/layer.tar")
mv "$work/layer.tar" "$work/image/$layer.tar"

cat >"$work/config.json" <<JSON
{
  "architecture": "$architecture",
  "os": "linux",
  "created": "$date",
  "config": {
    "User": "65532:65532",
    "Entrypoint": ["/podpolicy"],
    "WorkingDir": "/",
    "Labels": {
      "org.opencontainers.image.title": "podpolicy",
      "org.opencontainers.image.version": "$version",
      "org.opencontainers.image.licenses": "Apache-2.0"
    }
  },
  "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
  "history": [{"created": "$date", "created_by": "COPY podpolicy /podpolicy"}]
}
JSON
config=$(digest "$work/config.json")
mv "$work/config.json" "$work/image/$config.json"
printf '[{"Config": "%s.json", "RepoTags": ["%s"], "Layers": ["%s.tar"]}]\n' "$config" "$name" "$layer" >"$work/image/manifest.json"
chmod 0644 "$work/image"/*
pack "$work/archive.tar" "$work/image" manifest.json "$config.json" "$layer.tar"
mv "$work/archive.tar" "$archive"
say "wrote $name ($architecture) to $archive"
