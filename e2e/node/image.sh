#!/usr/bin/env bash
# Makes a container image out of a folder, without Docker: image.sh NAME:TAG FOLDER ARCHIVE COMMAND...
#
# The archive has the format of `docker save`. The same folder always gives the same archive.
set -euo pipefail

name=$1 folder=$2 archive=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pack() { # folder archive
  tar --create --file "$2" --directory "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
}
strings() { # each argument as a JSON string
  local separator=""
  for argument in "$@"; do
    argument=${argument//\\/\\\\}
    printf '%s"%s"' "$separator" "${argument//\"/\\\"}"
    separator=", "
  done
}

mkdir "$work/image"
pack "$folder" "$work/image/layer.tar"
layer=$(sha256sum "$work/image/layer.tar" | cut -d ' ' -f 1)
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac
cat >"$work/image/config.json" <<END
{
  "architecture": "$architecture",
  "os": "linux",
  "config": { "Entrypoint": [$(strings "$@")], "Env": ["PATH=/bin"], "WorkingDir": "/" },
  "rootfs": { "type": "layers", "diff_ids": ["sha256:$layer"] }
}
END
cat >"$work/image/manifest.json" <<END
[{ "Config": "config.json", "RepoTags": ["$name"], "Layers": ["layer.tar"] }]
END
pack "$work/image" "$archive"
